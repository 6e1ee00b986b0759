"""A queue in memory that counts what a view asks of it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from uuid import UUID

from core.errors import Category, Problem
from core.events import Output
from core.jobs import Job, JobState
from core.queue import GROUP_OF, Group, JobRow


def job(number: int, prompt: str = "") -> Job:
    """Return the job of `number`; its id is made from it."""
    return Job(
        id=str(UUID(int=number)),
        recipe="starter",
        engine="local",
        family="animatediff",
        title=prompt or f"Scene {number}",
        params={
            "prompt": prompt or f"Scene {number}, a slow pan",
            "seed": 7000 + number,
            "width": 512,
            "height": 320,
            "frames": 16,
            "fps": 8,
        },
        model="",
        output=f"/clips/scene-{number}.mp4",
        created_at=1.7e9 + number,
    )


def output(number: int, poster: str = "") -> Output:
    """Return a finished clip."""
    return Output(
        path=f"/clips/scene-{number}.mp4",
        poster=poster,
        recipe="",
        width=512,
        height=320,
        frames=16,
        fps=8.0,
        size_bytes=1000,
        encode_seconds=0.4,
        verify_seconds=0.05,
    )


def row(number: int, state: JobState, **more: object) -> JobRow:
    """Return a row as a ledger would: with a clip, a problem or nothing."""
    made = JobRow(job=job(number), state=state, key=number)
    if state is JobState.DONE:
        made = replace(
            made,
            attempt=1,
            output=output(number),
            seconds=218.0,
            peak_rss_bytes=3 * 2**30,
            ended_at=time.time(),
        )
    if state is JobState.FAILED:
        problem = Problem(
            Category.INSUFFICIENT_VRAM,
            "The GPU ran out of memory while decoding.",
            "Use fewer frames.",
        )
        made = replace(made, attempt=1, problem=problem, seconds=12.0, ended_at=time.time())
    return replace(made, **more)


class MemoryQueue:
    """Holds rows in three lists; `asked` counts the rows that were read."""

    def __init__(self, rows: Sequence[JobRow] = ()) -> None:
        self.all = {row.key: row for row in rows}
        self.order: dict[Group, list[int]] = {group: [] for group in Group}
        for made in rows:
            self.order[GROUP_OF[made.state]].append(made.key)
        self.asked = 0
        self.calls = 0

    def ids(self, group: Group) -> Sequence[int]:
        return list(self.order[group])

    def rows(self, keys: Collection[int]) -> list[JobRow]:
        self.calls += 1
        self.asked += len(keys)
        return [self.all[key] for key in keys if key in self.all]

    def job_ids(self, keys: Collection[int]) -> list[str]:
        return [self.all[key].job.id for key in keys if key in self.all]

    def counts(self) -> dict[JobState, int]:
        states = [made.state for made in self.all.values()]
        return {state: states.count(state) for state in JobState}

    def set(self, key: int, state: JobState, *, first: bool = False) -> None:
        """Move a row to the group of `state`."""
        self.order[GROUP_OF[self.all[key].state]].remove(key)
        self.all[key] = replace(row(key, state), job=self.all[key].job)
        stretch = self.order[GROUP_OF[state]]
        stretch.insert(0 if first else len(stretch), key)

    def add(self, made: JobRow) -> None:
        """Append a row to its group."""
        self.all[made.key] = made
        self.order[GROUP_OF[made.state]].append(made.key)

    def remove(self, *keys: int) -> None:
        """Take rows away."""
        for key in keys:
            self.order[GROUP_OF[self.all.pop(key).state]].remove(key)
