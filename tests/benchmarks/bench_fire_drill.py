"""The whole fire drill with our own engine: all twenty drills within the minute that it may take.

Baseline: the drill in which nothing goes wrong, before and after the whole. Floor: the twenty
times that, since each drill starts a server and an engine of its own.
"""

from __future__ import annotations

import statistics

from app import fire_drill
from app.drills import DRILLS


def calm() -> float:
    """Return the seconds of the drill in which nothing goes wrong."""
    drills = [drill for drill in DRILLS if drill.name == "calm"]
    return fire_drill.run(fire_drill.own_engine, drills).seconds


def main() -> int:
    """Print the drill's time and its ratio; returns 1 when the promise is missed."""
    before = calm()
    report = fire_drill.run(fire_drill.own_engine)
    plain = statistics.median([before, calm()])
    print(report.text())
    print(f"nothing goes wrong, alone  {plain:5.1f} s")
    print(f"all of {len(DRILLS)}                 {report.seconds:5.1f} s, "
          f"{report.seconds / (plain * len(DRILLS)):.2f} x that many of it "
          f"(promise: none left out of {fire_drill.BUDGET_SECONDS:.0f} s)")  # fmt: skip
    return 0 if report.survived and not report.left_out else 1


if __name__ == "__main__":
    raise SystemExit(main())
