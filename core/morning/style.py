"""How the report looks: both themes, on a phone, on paper."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --paper: #e9ecf0; --panel: #fff; --ink: #1b2028; --soft: #596372;
  --line: #c6ccd5; --link: #1c5fa8; --done: #1d7a45; --failed: #b3261e; --stopped: #596372;
  --lost: #8a5a00; --running: #1c5fa8; --done-bar: #bfe3cd; --failed-bar: #f2b8b3;
  --stopped-bar: #cdd3db; --lost-bar: #f0d595; --running-bar: #bcd7f2; --look: #fdf1d4;
  --calm: #e3f4ea; --bad: #fce8e6; }
@media (prefers-color-scheme: dark) { :root { --paper: #0e1014; --panel: #191d24; --ink: #e7eaef;
  --soft: #9aa3b1; --line: #363d49; --link: #6cb2f5; --done: #5fc184; --failed: #f2756d;
  --stopped: #9aa3b1; --lost: #e5b04a; --running: #6cb2f5; --done-bar: #1f4a31;
  --failed-bar: #6b2a28; --stopped-bar: #363d49; --lost-bar: #5a4415; --running-bar: #1f3f5f;
  --look: #35290f; --calm: #15261d; --bad: #361a1b; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1120px; margin: 0 auto; padding: 1.5rem 1rem 3rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.05rem; margin: 2rem 0 .6rem; } h3 { font-size: .95rem; margin: 0 0 .2rem; }
p { margin: .2rem 0; } a { color: var(--link); } .soft, .brand { color: var(--soft); }
.brand { font-size: .85rem; letter-spacing: .03em; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 3px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: .6rem;
  margin: 1.2rem 0; }
.tiles > div, .card, .failure, .wide { background: var(--panel); border: 1px solid var(--line);
  border-radius: 8px; }
.tiles > div { padding: .6rem .8rem; min-width: 0; }
.tiles dt { color: var(--soft); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles small { display: block; font-size: .8rem; font-weight: 400; color: var(--soft);
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.calm, .look { border-radius: 8px; padding: .6rem .9rem; background: var(--calm); }
.look { background: var(--look); margin: 1rem 0; } .look h2 { margin: 0 0 .2rem; }
.look ul { margin: 0; padding-left: 1.2rem; }
.failures { display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
.failure { padding: .7rem .9rem; background: var(--bad); border-color: var(--failed); }
.failure.past { background: var(--panel); border-color: var(--line); }
.failure ol { margin: .2rem 0; padding-left: 1.3rem; } .failure p:empty { display: none; }
.sheet { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); }
.card { overflow: hidden; padding-bottom: .6rem; } .card > :not(.strip) { margin-left: .8rem;
  margin-right: .8rem; } .card h3 { margin-top: .5rem; font-weight: 600; display: -webkit-box;
  -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
.card h3 a { color: inherit; text-decoration-color: var(--line); }
.strip { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: 2px;
  background: #08090b; }
.strip img { width: 100%; aspect-ratio: 1; object-fit: cover; display: block; }
.missing { color: #c9d0da; padding: 1.6rem 1rem; margin: 0; text-align: center; }
.badge { display: inline-block; font-size: .8rem; border: 1px solid var(--lost); color: var(--lost);
  border-radius: 10px; padding: 0 .5rem; margin: .2rem .3rem 0 0; }
.wide { overflow-x: auto; padding: .5rem .8rem; } .wide svg { min-width: 600px; width: 100%;
  height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .time { fill: var(--soft); }
.done rect { fill: var(--done-bar); } .failed rect { fill: var(--failed-bar); }
.stopped rect { fill: var(--stopped-bar); } .lost rect { fill: var(--lost-bar); }
.running rect { fill: var(--running-bar); }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; white-space: nowrap;
  padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); font-weight: 400; }
tbody tr:last-child > * { border-bottom: 0; } thead th { color: var(--soft); font-size: .85rem; }
tbody th { max-width: 14rem; overflow: hidden; text-overflow: ellipsis; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.state::before { content: ""; display: inline-block; width: .6em; height: .6em; margin-right: .4em;
  border-radius: 50%; background: currentColor; }
.state.done { color: var(--done); } .state.failed, .worse { color: var(--failed); }
.state.stopped { color: var(--stopped); } .state.lost { color: var(--lost); }
.state.running { color: var(--running); } footer { margin-top: 2.5rem; font-size: .85rem; }
summary { cursor: pointer; font-weight: 600; } .recipe { margin: 0 0 1rem; }
.recipe .wide { margin-top: .4rem; }
@media (max-width: 520px) { .tiles { grid-template-columns: 1fr 1fr; } .sheet { gap: .5rem;
  grid-template-columns: 1fr 1fr; } .card { font-size: .85rem; } h1 { font-size: 1.35rem; } }
@media print { :root { --paper: #fff; --panel: #fff; --ink: #000; --soft: #444; --line: #bbb; }
  body { max-width: none; padding: 0; font-size: 10pt; } .skip { display: none; }
  .card, .failure, .tiles > div, tr, svg { break-inside: avoid; } h2 { break-after: avoid; }
  .wide { overflow: visible; padding: 0; border: 0; } table { font-size: 8pt; }
  .sheet, .tiles { grid-template-columns: 1fr 1fr 1fr; }
  .wide svg { min-width: 0; } th, td { padding-right: .4rem; } tbody th { white-space: normal; } }
"""
