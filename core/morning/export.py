"""A run of the queue for other programs: the report, and `artifact-metadata.json`.

Bytes, seconds, watt hours; names that end in `_unix` are Unix time; what is not
known is null. Names are stable: `VERSION` goes up when one changes its meaning or goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.failures.recovery import recovery
from core.morning.compare import Compared, Figure
from core.morning.marks import Mark
from core.morning.report import TARGET_SECONDS, Report, Scene, Try, middle
from core.morning.words import headline, steps_of, warnings
from core.recorder.noted import Noted

VERSION = 1
METADATA_VERSION = 1


def as_json(report: Report, compared: Sequence[Compared]) -> dict[str, Any]:
    """Return the report as plain values for `json.dumps`."""
    span, peak = report.span, report.peak
    clips = len(report.done)
    return {
        "version": VERSION,
        "run": span.name,
        "headline": headline(report),
        "made_unix": report.made_unix,
        "began_unix": span.began_unix,
        "ended_unix": None if span.running else span.ended_unix,
        "running": span.running,
        "seconds": _round(report.seconds),
        "totals": {
            "jobs": len(report.scenes),
            **report.counts,
            "waiting": report.waiting,
            "tries_of_removed_jobs": report.left_out,
            "tries": len(report.tries),
            "retries": sum(scene.retries for scene in report.scenes),
            "clip_seconds_median": _round(middle(scene.seconds for scene in report.done)),
            "clips_over_target": len(report.long_ones),
            "target_seconds": TARGET_SECONDS,
            "energy_wh": _round(report.energy_wh),
            "energy_wh_per_clip": _share(report.energy_wh, clips),
            "peak_bytes": None if peak is None else peak[1],
            "peak_job": None if peak is None else peak[0].job.id,
        },
        "scenes": [scene_json(scene) for scene in report.scenes],
        "compared": [_compared(item) for item in compared],
        "warnings": warnings(report, compared),
    }


def scene_json(scene: Scene) -> dict[str, Any]:
    """Return one job of the run."""
    output = scene.output
    return {
        "job": scene.job.id,
        "title": scene.job.title,
        "recipe": scene.job.recipe,
        "engine": scene.job.engine,
        "outcome": scene.outcome,
        "clip": None if output is None else output.path,
        "frames": None if output is None else output.frames,
        "width": None if output is None else output.width,
        "height": None if output is None else output.height,
        "seconds": _round(scene.seconds),
        "seconds_of_all_tries": _round(scene.all_seconds),
        "seconds_per_frame": _round(scene.seconds_per_frame, 6),
        "peak_bytes": scene.peak_bytes,
        "energy_wh": _round(scene.energy_wh),
        "retries": scene.retries,
        "rungs": scene.rungs,
        "tries": [_try(item) for item in scene.tries],
    }


def _try(item: Try) -> dict[str, Any]:
    problem = item.problem
    return {
        "number": item.number,
        "began_unix": item.began_unix,
        "ended_unix": item.ended_unix,
        "outcome": item.outcome,
        "waited_seconds": _round(item.waited_seconds),
        "seconds": _round(item.seconds),
        "phases": {name: _round(took) for name, took in item.phases.items()},
        "peak_vram_bytes": item.peak_vram_bytes,
        "peak_rss_bytes": item.peak_rss_bytes,
        "devices": [_device(told) for told in item.devices],
        "energy_wh": _round(item.energy_wh),
        "rungs": item.marked(Mark.RUNG),
        "notes": list(item.notes),
        "failure": problem
        and {
            "category": problem.category.value,
            "message": problem.message,
            "hint": problem.hint,
            "field": problem.field,
            "cause": recovery(problem).cause.value,
            "steps": steps_of(problem),
        },
    }


def _device(told: Noted) -> dict[str, Any]:
    peak = told.kept.peak
    return {
        "device": told.device,
        "name": told.name,
        "total_bytes": told.total_bytes,
        "before_bytes": told.before_bytes,
        "after_bytes": told.after_bytes,
        "peak_bytes": told.kept.figures.peak_bytes,
        "peak_seconds": None if peak is None else _round(peak.at_seconds),
        "peak_phase": None if peak is None else peak.phase,
        "peak_node": None if peak is None else peak.node,
        "average_bytes": told.kept.figures.average_bytes,
        "energy_wh": _round(told.kept.figures.energy_wh),
    }


def _compared(item: Compared) -> dict[str, Any]:
    return {
        "recipe": item.recipe,
        "jobs": [scene.job.id for scene in item.scenes],
        "earlier_run": None if item.earlier is None else item.earlier.name,
        "earlier_clips": item.clips_before,
        "differences": list(item.differences),
        "seconds_per_frame": _figure(item.seconds_per_frame),
        "seconds": _figure(item.seconds),
        "peak_bytes": _figure(item.peak_bytes),
        "energy_wh": _figure(item.energy_wh),
        "slower": item.slower,
        "higher": item.higher,
    }


def _figure(figure: Figure) -> dict[str, float | None]:
    return {
        "now": _round(figure.now, 6),
        "before": _round(figure.before, 6),
        "change": _round(figure.change, 6),
    }


def as_metadata(report: Report, compared: Sequence[Compared]) -> dict[str, Any]:
    """Return what `artifact-metadata.json` holds; `resources/schemas` says its form."""
    tries, span = report.tries, report.span
    waited = [item.waited_seconds for item in tries]
    took = [item.seconds for item in tries if item.seconds is not None]
    marks = [mark for item in tries for mark, _ in item.marks]
    slower = {scene.job.id for item in compared if item.slower for scene in item.scenes}
    return {
        "version": METADATA_VERSION,
        "run": span.name,
        "began_unix": span.began_unix,
        "ended_unix": None if span.running else span.ended_unix,
        "gpus": _gpus(tries),
        "queue": {
            "jobs": len(report.scenes),
            "tries": len(tries),
            "retries": sum(scene.retries for scene in report.scenes),
            "waited_seconds_average": _share(sum(waited), len(waited)),
            "waited_seconds_max": _round(max(waited, default=None)),
            "executed_seconds_average": _share(sum(took), len(took)),
            "executed_seconds_max": _round(max(took, default=None)),
            "failures_in_a_row_max": _streak(tries),
            "breakers_opened": marks.count(Mark.BREAKER),
            "failovers": marks.count(Mark.FAILOVER),
            "low_memory_actions": marks.count(Mark.LOW_MEMORY),
        },
        "scenes": [
            {
                "job": scene.job.id,
                "outcome": scene.outcome,
                "clip": None if scene.output is None else scene.output.path,
                "seconds": _round(scene.seconds),
                "over_target": (scene.seconds or 0.0) > TARGET_SECONDS,
                "regression": scene.job.id in slower,
                "retries": scene.retries,
                "rungs": scene.rungs,
                "peak_bytes": scene.peak_bytes,
                "energy_wh": _round(scene.energy_wh),
            }
            for scene in report.scenes
        ],
        # No language model takes part in a run of the queue: nothing is known of any.
        "llm": {
            "requests": None,
            "seconds_total": None,
            "seconds_average": None,
            "cache_hit_ratio": None,
            "timeouts": None,
        },
        "warnings": warnings(report, compared),
    }


def _gpus(tries: Sequence[Try]) -> list[dict[str, Any]]:
    """Return each GPU before the first try that was recorded on it and after the last."""
    found: dict[int, list[Noted]] = {}
    for item in sorted(tries, key=lambda item: item.began_unix):
        for told in item.gpus:
            found.setdefault(told.device, []).append(told)
    return [
        {
            "device": device,
            "name": told[-1].name,
            "total_bytes": told[-1].total_bytes,
            "before_bytes": told[0].before_bytes,
            "after_bytes": told[-1].after_bytes,
            "peak_bytes": max(
                (x.kept.figures.peak_bytes for x in told if x.kept.figures.peak_bytes is not None),
                default=None,
            ),
        }
        for device, told in sorted(found.items())
    ]


def _streak(tries: Sequence[Try]) -> int:
    """Return how many tries failed one after the other, at most."""
    most = now = 0
    for item in sorted(tries, key=lambda item: item.ended_unix or item.began_unix):
        if item.outcome in ("failed", "lost"):
            now += 1
            most = max(most, now)
        elif item.outcome == "done":
            now = 0
    return most


def _round(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def _share(amount: float | None, parts: int) -> float | None:
    return None if amount is None or not parts else round(amount / parts, 3)
