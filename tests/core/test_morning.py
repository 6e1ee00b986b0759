"""The morning report: runs found in the ledger, figures, comparison, metadata."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Category, Problem
from core.gpu import traces
from core.ledger import Ledger
from core.ledger.store import join_store
from core.morning.compare import NO_FACTS, Compared, compare
from core.morning.export import as_json, as_metadata
from core.morning.files import load
from core.morning.marks import Mark, note_of, read_note
from core.morning.report import Report
from core.morning.spans import GAP_SECONDS, Ran, clustered, find_spans
from core.morning.words import against, as_text, duration, energy, headline, share, warnings
from core.resources import path as resource
from tests.core.nights import MB, TEN_PM, Night, Told
from tests.core.recording import Bench
from tests.core.test_recorder import run_wan

DEAD = Problem(Category.WORKER_UNAVAILABLE, "The engine's process ended.", "Retry the job.")


@pytest.fixture
def night(tmp_path: Path) -> Any:
    with Night(tmp_path) as made:
        yield made


def told(night: Night) -> tuple[Report, list[Compared]]:
    return load(night.ledger.store, find_spans(night.ledger.store))


# -- which attempts are one run ---------------------------------------------------

RAN = st.lists(
    st.tuples(st.integers(0, 40_000), st.one_of(st.none(), st.integers(0, 9_000))), max_size=30
)


@given(RAN)
def test_a_run_ends_where_nothing_ran_for_half_an_hour(rows: list[tuple[int, int | None]]) -> None:
    now = 50_000.0
    ran = [
        Ran(key, began, None if took is None else float(began + took))
        for key, (began, took) in enumerate(rows)
    ]
    spans = clustered(ran, now)
    assert sorted(key for span in spans for key in span.attempts) == list(range(len(ran)))

    def busy(at: float) -> bool:
        return any(
            r.began_unix <= at <= (now if r.ended_unix is None else r.ended_unix) for r in ran
        )

    for span in spans:
        inside = [ran[key] for key in span.attempts]
        assert span.began_unix == min(r.began_unix for r in inside)
        assert span.running == any(r.ended_unix is None for r in inside)
        # No idle stretch of more than the gap within it.
        quiet = [at for at in range(int(span.began_unix), int(span.ended_unix), 60) if not busy(at)]
        streak = longest = 0
        for one, other in pairwise(quiet):
            streak = streak + 60 if other - one == 60 else 0
            longest = max(longest, streak)
        assert longest <= GAP_SECONDS
    for later, earlier in pairwise(spans):
        assert later.began_unix - earlier.ended_unix > GAP_SECONDS


def test_the_end_of_a_lost_job_is_its_last_sign(night: Night) -> None:
    """Its row is closed by the next start, hours later: that is not when it ended."""
    night.run(night.job("first"))
    lost = night.job("lost")
    night.run(lost, Told(seconds=90, outcome="lost", problem=DEAD))
    store = night.ledger.store
    store.read("UPDATE events SET at_unix = ? + at_seconds - (SELECT began_seconds FROM attempts "
               "a WHERE a.key = events.attempt)", (night.now - 90,))  # fmt: skip
    store.read("UPDATE attempts SET ended_at = ended_at + 30000 WHERE outcome = 'lost'")
    night.now += 7200
    night.run(night.job("in the morning"))
    latest, earlier = find_spans(store)
    assert len(latest.attempts) == 1
    assert len(earlier.attempts) == 2
    assert earlier.ended_unix - earlier.began_unix == pytest.approx(60 + 1 + 85.5, abs=0.1)


def test_a_job_whose_process_is_gone_is_not_at_work(night: Night) -> None:
    night.begin(night.job("at work"))
    store = night.ledger.store
    (span,) = find_spans(store, now=lambda: TEN_PM + 100)
    assert span.running
    assert span.ended_unix == TEN_PM + 100
    (span,) = find_spans(store, alive=lambda _: False)
    assert not span.running
    assert load(store, [span])[0].counts["lost"] == 1


# -- what it came to ---------------------------------------------------------------


def test_every_figure_of_a_night(night: Night) -> None:
    night.run(night.job("a"), Told(seconds=60, energy_wh=5, peak_mb=9000))
    night.run(
        night.job("b"),
        Told(seconds=30, outcome="failed", energy_wh=2, peak_mb=23000, gap=4),
        Told(seconds=90, energy_wh=8, notes=[note_of(Mark.RUNG, "decode in tiles"), "plain"]),
    )
    night.run(night.job("c"), Told(seconds=12, outcome="failed", problem=DEAD, peak_mb=None))
    night.run(night.job("d"), Told(seconds=3, outcome="stopped"))
    night.job("waits")
    gone = night.run(night.job("removed"))
    night.ledger.remove([gone.id])
    report, compared = told(night)
    assert report.counts == {"done": 2, "failed": 1, "stopped": 1, "lost": 0, "running": 0}
    assert (report.waiting, report.left_out, len(report.tries)) == (1, 1, 5)
    assert headline(report) == "2 done, 1 failed, 1 stopped in 4:23 min"
    a, b, c, _ = report.scenes
    assert (a.seconds, a.energy_wh, a.peak_bytes, a.retries) == (60, 5, 9000 * MB, 0)
    assert a.seconds_per_frame == pytest.approx(60 / 9)
    assert a.last.phases == pytest.approx({"load": 6, "sample": 42, "decode": 9, "encode": 3})
    assert (b.seconds, b.all_seconds, b.energy_wh, b.retries) == (90, 120, 10, 1)
    assert b.rungs == ["decode in tiles"]
    assert b.last.notes == ("plain",)
    assert b.last.waited_seconds == pytest.approx(1)
    assert b.tries[0].waited_seconds == pytest.approx(4)
    assert (c.peak_bytes, c.energy_wh) == (None, None)
    assert c.last.problem == DEAD
    assert report.energy_wh == 5 + 10 + 5
    assert [scene.job.title for scene, _ in report.failures] == ["b", "c"]
    text = as_text(report, compared)
    for words in ("try 2; decode in tiles", DEAD.message, DEAD.hint, "1 retry", "1 waiting"):
        assert words in text
    assert warnings(report, compared) == [
        "1 job failed: “c”.",
        "1 job ran lighter to fit into memory: “b”.",
        "1 job still waiting.",
    ]


def test_json_has_stable_names_and_says_nothing_it_does_not_know(night: Night) -> None:
    night.run(night.job("a"), Told(peak_mb=None))
    data = json.loads(json.dumps(as_json(*told(night))))
    assert data["version"] == 1
    assert set(data) == {
        "version", "run", "headline", "made_unix", "began_unix", "ended_unix", "running",
        "seconds", "totals", "scenes", "compared", "warnings",
    }  # fmt: skip
    (scene,) = data["scenes"]
    assert set(scene) == {
        "job", "title", "recipe", "engine", "outcome", "clip", "frames", "width", "height",
        "seconds", "seconds_of_all_tries", "seconds_per_frame", "peak_bytes", "energy_wh",
        "retries", "rungs", "tries",
    }  # fmt: skip
    assert scene["energy_wh"] is None
    assert scene["peak_bytes"] == MB, "what the engine itself held is known all the same"
    assert data["totals"]["energy_wh"] is data["totals"]["energy_wh_per_clip"] is None
    assert scene["tries"][0]["failure"] is None


# -- against the run before ------------------------------------------------------------


def nights(night: Night, before: Told, now: Told, **settings: object) -> Compared:
    """Two runs a day apart; the second one with other settings, if any are given."""
    for number in range(3):
        night.run(night.job(f"before {number}"), before)
    night.now += 24 * 3600
    for number in range(2):
        night.run(night.job(f"now {number}", **settings), now)
    (found,) = told(night)[1]
    return found


@pytest.mark.parametrize(("seconds", "flagged"), [(114, False), (115, True), (60, False)])
def test_fifteen_in_a_hundred_slower_is_a_regression(
    night: Night, seconds: float, flagged: bool
) -> None:
    found = nights(night, Told(seconds=100), Told(seconds=seconds, energy_wh=6))
    assert found.slower is flagged
    assert found.clips_before == 3
    assert found.seconds_per_frame.change == pytest.approx(seconds / 100 - 1)
    assert found.energy_wh.change == pytest.approx(0.2)
    assert found.peak_bytes.change == 0
    report, compared = told(night)
    assert [s["regression"] for s in as_metadata(report, compared)["scenes"]] == [flagged] * 2
    assert any("a frame against the run before" in text for text in warnings(report, compared)) is (
        flagged
    )


def test_another_setting_is_named_and_nothing_compared(night: Night) -> None:
    found = nights(night, Told(seconds=100), Told(seconds=400), steps=32)
    assert found.differences == ("steps 32 instead of 8",)
    assert (found.clips_before, found.seconds.before, found.slower) == (0, None, False)
    assert "Not compared with the run of " in against(found)
    assert against(found).endswith("steps 32 instead of 8.")


def test_another_version_is_named_too(night: Night) -> None:
    found = nights(night, Told(), Told())
    for scene in found.scenes:
        assert scene.output is not None
        beside = Path(scene.output.recipe)
        beside.write_text(beside.read_text().replace('"torch": "2.6"', '"torch": "2.7"'))
    (found,) = told(night)[1]
    assert found.differences == ("torch version 2.7 instead of 2.6",)
    for scene in found.scenes:
        assert scene.output is not None
        Path(scene.output.recipe).unlink()
    (found,) = told(night)[1]
    assert found.differences == (NO_FACTS,)


def test_the_last_run_of_the_recipe_counts_not_the_last_run(night: Night) -> None:
    night.run(night.job("old"), Told(seconds=50))
    night.now += 24 * 3600
    night.run(night.job("between", recipe="other"))
    night.now += 24 * 3600
    night.run(night.job("now"), Told(seconds=50))
    store = night.ledger.store
    spans = find_spans(store)
    report = load(store, spans)[0]
    (found,) = compare(store, report, spans[1:])
    assert found.earlier == spans[2]
    (alone,) = load(store, spans, 1)[1]
    assert alone.earlier is None
    assert against(alone) == "No earlier run of this recipe."


# -- artifact-metadata.json ---------------------------------------------------------------


def faults(value: object, schema: dict[str, Any], where: str = "$") -> list[str]:
    """Return what of `value` breaks `schema`; knows the words that our schema uses."""
    known = {"type", "required", "properties", "additionalProperties", "items", "enum", "const",
             "minimum", "maximum", "pattern", "title", "description", "$schema"}  # fmt: skip
    assert set(schema) <= known, f"{where}: the schema uses {set(schema) - known}"
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if wanted and not any(is_of(value, name) for name in wanted):
        return [f"{where}: {value!r} is not {wanted}"]
    found = []
    if value != schema.get("const", value) or value not in schema.get("enum", [value]):
        found.append(f"{where}: {value!r} is another value")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where}: {value!r} is of another form")
    if isinstance(value, int | float):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        found += [] if low <= value <= high else [f"{where}: {value!r} is out of range"]
    if isinstance(value, dict):
        found += faults_inside(value, schema, where)
    for place, item in enumerate(value if isinstance(value, list) else ()):
        found += faults(item, schema.get("items", {}), f"{where}[{place}]")
    return found


def is_of(value: object, name: str) -> bool:
    types: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool,
                             "null": type(None), "integer": int, "number": int | float}  # fmt: skip
    return isinstance(value, types[name]) and isinstance(value, bool) is (name == "boolean")


def faults_inside(value: dict[str, Any], schema: dict[str, Any], where: str) -> list[str]:
    parts = schema.get("properties", {})
    required = schema.get("required", ())
    found = [f"{where}.{name} is missing" for name in required if name not in value]
    if schema.get("additionalProperties") is False:
        found += [f"{where}.{name} is not known" for name in value if name not in parts]
    for name in parts.keys() & value.keys():
        found += faults(value[name], parts[name], f"{where}.{name}")
    return found


SCHEMA = json.loads(resource("schemas/artifact-metadata.json").read_text("utf-8"))


def test_metadata_is_valid_and_the_check_finds_what_is_not(night: Night) -> None:
    night.run(night.job("a"), Told(outcome="failed"), Told())
    night.run(night.job("b"), Told(outcome="lost", problem=DEAD, peak_mb=None))
    data = json.loads(json.dumps(as_metadata(*told(night))))
    assert faults(data, SCHEMA) == []
    for change in ({"version": 2}, {"warnings": [1]}, {"more": 1}, {"gpus": [{}]}, {"run": "x"}):
        assert faults({**data, **change}, SCHEMA), change
    assert faults({k: v for k, v in data.items() if k != "llm"}, SCHEMA) == ["$.llm is missing"]
    queue = {**data["queue"], "waited_seconds_max": -1}
    assert faults({**data, "queue": queue}, SCHEMA)


def test_its_numbers_are_those_of_the_logs(tmp_path: Path) -> None:
    """D48: recomputed from `vram-usage.log` and from the rows that the jobs left."""
    bench = Bench(tmp_path, traces.find("wan-i2v-24gb"))
    run_wan(bench)
    second = bench.begin()
    for _ in range(50):
        bench.tick()
    bench.end(second)
    for _ in range(40):
        bench.tick()
    bench.close()
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    store = ledger.store
    report, compared = load(store, find_spans(store))
    data = as_metadata(report, compared)
    rows = store.read(
        """SELECT j.job, a.started_at, a.seconds FROM attempts a JOIN jobs j ON j.key = a.job
        ORDER BY a.key"""
    )
    ledger.close()
    assert faults(json.loads(json.dumps(data)), SCHEMA) == []
    logs = [log_figures(path) for path in sorted((tmp_path / "runs").rglob("vram-usage.log"))]
    assert len(logs) == 2
    logs.sort(key=lambda log: -log["peak_mb"])
    (gpu,) = data["gpus"]
    assert round(gpu["before_bytes"] / MB) == logs[0]["before_mb"] == 2065
    assert round(gpu["after_bytes"] / MB) == logs[1]["after_mb"]
    assert round(gpu["peak_bytes"] / MB) == max(log["peak_mb"] for log in logs) == 14523
    # The highest of every second that stands in the log, not only its summary.
    assert logs[0]["highest_mb"] == 14523
    energy = sum(log["energy_wh"] for log in logs)
    assert sum(scene["energy_wh"] for scene in data["scenes"]) == pytest.approx(energy, abs=0.02)
    waited = [began - json.loads(job)["created_at"] for job, began, _ in rows]
    queue = data["queue"]
    assert queue["waited_seconds_average"] == pytest.approx(sum(waited) / 2, abs=0.001)
    assert queue["waited_seconds_max"] == pytest.approx(max(waited), abs=0.001)
    assert queue["executed_seconds_average"] == sum(took for _, _, took in rows) / 2
    assert (queue["jobs"], queue["tries"], queue["retries"]) == (2, 2, 0)


def log_figures(path: Path) -> dict[str, float]:
    """Return the summary of a `vram-usage.log`, and the highest of all its seconds."""
    text = path.read_text("utf-8")
    found = {
        name: float(value) for name, value in re.findall(r"^(\w+_(?:mb|wh)): (\S+)$", text, re.M)
    }
    lines = [line.split("\t") for line in text.splitlines() if "\t" in line]
    column = lines[0].index("highest_mb")
    inside = [row for row in lines[1:] if float(row[1]) >= 0]
    found["highest_mb"] = max(float(row[column]) for row in inside if row[column] != "–")
    return found


def test_breakers_failovers_and_streaks_are_counted(night: Night) -> None:
    bad = Told(outcome="failed", problem=DEAD)
    for number in range(3):
        night.run(night.job(f"bad {number}"), bad)
    marked = [note_of(Mark.BREAKER, "local"), note_of(Mark.FAILOVER, "to :8189"),
              note_of(Mark.LOW_MEMORY, "cache cleared")]  # fmt: skip
    night.run(night.job("moved"), Told(notes=marked))
    night.run(night.job("bad again"), bad)
    report, compared = told(night)
    queue = as_metadata(report, compared)["queue"]
    assert queue["failures_in_a_row_max"] == 3
    assert (queue["breakers_opened"], queue["failovers"], queue["low_memory_actions"]) == (1, 1, 1)
    assert "Once, a job ran elsewhere than meant." in warnings(report, compared)


@given(st.sampled_from(Mark), st.text())
def test_a_counted_note_is_read_back(mark: Mark, words: str) -> None:
    assert read_note(note_of(mark, words)) == (mark, words)


def test_plain_notes_stay_plain() -> None:
    assert read_note("Memory cleaned up: 2 GB") == (None, "Memory cleaned up: 2 GB")


def test_figures_as_people_read_them() -> None:
    assert [duration(x) for x in (None, 8.24, 59.96, 245, 11_400, 3599.6)] == [
        "–", "8.2 s", "1:00 min", "4:05 min", "3:10 h", "1:00 h",
    ]  # fmt: skip
    assert [energy(x) for x in (None, 0.009, 5.04, 142.3, 1500)] == [
        "–", "0.01 Wh", "5.0 Wh", "142 Wh", "1.50 kWh",
    ]  # fmt: skip
    assert [share(x) for x in (None, 0.123, -0.03, 0.001)] == ["–", "+12 %", "−3 %", "same"]


def test_twenty_thousand_attempts_are_looked_through_quickly(night: Night) -> None:
    """The ledger of a year: the last run is found without reading the jobs."""
    night.run(night.job("one"), Told(peak_mb=None, outcome="stopped"))
    store = night.ledger.store
    with store.write() as database:
        (row,) = database.execute("SELECT job, owner FROM attempts").fetchall()
        database.executemany(
            """INSERT INTO attempts (job, number, owner, started_at, ended_at, outcome)
                VALUES (?, ?, ?, ?, ?, 'stopped')""",
            [(row[0], n, row[1], TEN_PM + 90 * n, TEN_PM + 90 * n + 60) for n in range(2, 20_001)],
        )
    other = join_store(store.path)
    began = perf_counter()
    (span,) = find_spans(other)
    took = perf_counter() - began
    other.close()
    assert len(span.attempts) == 20_000
    assert took < 1.0
