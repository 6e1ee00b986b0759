"""The one thing to ask: what to do now, and when to look again.

Call `decide` at every change and after `next_look_seconds`; carry out what it
returns; tell `began` and `ended`. It has no clock and starts nothing, and what it
must not forget goes through `to_json`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from core.errors import Category, Problem
from core.scheduling.admission import WORTH_FREEING, Admission, Answer, admit, room_for_second
from core.scheduling.breaker import Breaker, State
from core.scheduling.choose import Chooser, Chosen
from core.scheduling.decisions import (
    Decided,
    Decision,
    Free,
    Pause,
    Relieve,
    SetAside,
    Start,
    Wait,
)
from core.scheduling.holds import Hold, Kind, all_holds, next_quiet_seconds
from core.scheduling.limits import Rules
from core.scheduling.moment import Now
from core.scheduling.pressure import Pressure, Relief
from core.scheduling.snapshot import Lane, Mode, Snapshot, Waiting
from core.scheduling.thermal import Thermal

LOOK_SECONDS = 2.0
"""How soon to look again where only a reading can change something."""
SOONEST_SECONDS = 0.01
"""Never look again sooner: clocks are not that fine."""
FREE_SECONDS = 60.0
"""A place that was asked to give memory back, and does not say so within this, has."""
_FAILING = (Kind.BREAKER, Kind.AWAY)


class Scheduler:
    """Holds what must outlive one look: breakers, temperatures, who was overtaken.

    Attributes:
        rules: What is set; may be replaced at any time.
        streak: Jobs that failed in a row, everywhere; a finished one ends it.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.streak = 0
        self._breakers: dict[str, Breaker] = {}
        self._thermals: dict[str, Thermal] = {}
        self._pressures: dict[str, Pressure] = {}
        self._overtaken: dict[str, int] = {}
        self._blocked: dict[str, float] = {}
        self._freeing: dict[str, float] = {}
        self._offered: dict[str, Start] = {}

    # -- what happened --------------------------------------------------------

    def began(self, job_id: str, place: str, now: Now) -> None:
        """A job began at a place, by a `Start` or otherwise."""
        start = self._offered.pop(job_id, None)
        if start is not None and start.place == place:
            for other in start.overtakes:
                self._overtaken[other] = self._overtaken.get(other, 0) + 1
        self._breakers[place] = self.breaker(place).began(job_id, now)
        self._freeing.pop(place, None)
        self._blocked.pop(job_id, None)

    def ended(
        self, job_id: str, place: str, now: Now, *, problem: Problem | None, finished: bool
    ) -> None:
        """A job ended: finished, failed with `problem`, or was stopped (neither)."""
        before = self.breaker(place)
        self._breakers[place] = before.ended(job_id, problem, now, self.rules.breaker, ran=finished)
        if finished:
            self.streak = 0
            self._overtaken.pop(job_id, None)
        elif problem is not None:
            self.streak += 1

    def reset(self, place: str) -> None:
        """A person says that a place works again: its breaker closes."""
        self._breakers.pop(place, None)

    def breaker(self, place: str) -> Breaker:
        """Return the breaker of a place."""
        return self._breakers.get(place, Breaker())

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """The breakers by place, as `alerts.signals_of` takes them."""
        return dict(self._breakers)

    def thermal(self, card: str) -> Thermal:
        """Return how a card stands; see `Lane.card`."""
        return self._thermals.get(card, Thermal())

    def overtaken(self, job_id: str) -> int:
        """Return how often a waiting job was overtaken."""
        return self._overtaken.get(job_id, 0)

    @property
    def overtakings(self) -> Mapping[str, int]:
        """How often waiting jobs were overtaken, by id; those that never were are left out."""
        return dict(self._overtaken)

    # -- what to do -----------------------------------------------------------

    def decide(self, snapshot: Snapshot, now: Now) -> Decided:
        """Return what to do now, why nothing else is done, and when to look again."""
        self._forget(snapshot)
        snapshot = self._seen(snapshot, now)
        decisions: list[Decision] = list(self._watch(snapshot, now))
        holds = self.holds(snapshot, now)
        decisions += self._drained(snapshot, now)
        chosen = Chosen()
        if not any(hold.place == "" for hold in holds):
            starts, chosen = self._start(snapshot, holds, now)
            decisions += starts
            for place, job, words in chosen.free:
                self._freeing[place] = now.at_seconds
                decisions.append(Free(place, words, job.job_id))
            decisions += _told(snapshot, chosen)
        running = any(lane.running for lane in snapshot.lanes)
        if snapshot.orders.stop_after_current and not running:
            decisions.append(Pause("What ran has ended; the queue stops, as it was asked to."))
        look = self._next_look(snapshot, holds, chosen, now)
        return Decided(tuple(decisions), tuple(holds), look)

    def holds(self, snapshot: Snapshot, now: Now) -> list[Hold]:
        """Return everything that keeps jobs from beginning."""
        found = all_holds(
            snapshot,
            now,
            breakers=self._breakers,
            thermals=self._thermals,
            thermal_rules=self.rules.thermal,
            most_depth=self.rules.limits.most_depth,
        )
        for lane in snapshot.lanes:
            pressure = self._pressures.get(lane.card, Pressure())
            if pressure.drains:
                words = pressure.taken[0].words
                # Admission keeps jobs back; this one is there to be seen.
                found.append(Hold(Kind.LOW_MEMORY, lane.place, words))
        return found

    def _forget(self, snapshot: Snapshot) -> None:
        """Drop what was kept for jobs and places that are gone."""
        alive = {job.job_id for job in snapshot.waiting}
        alive |= {lane.running for lane in snapshot.lanes}
        for kept in (self._overtaken, self._blocked):
            for job_id in [one for one in kept if one not in alive]:
                del kept[job_id]
        places = {lane.place for lane in snapshot.lanes}
        for place in [one for one in self._freeing if one not in places]:
            del self._freeing[place]
        self._offered.clear()

    def _seen(self, snapshot: Snapshot, now: Now) -> Snapshot:
        """Return the lanes with those taken for freed that never said so."""
        lanes: list[Lane] = []
        for lane in snapshot.lanes:
            asked = self._freeing.get(lane.place)
            if lane.freed:
                self._freeing.pop(lane.place, None)
            elif asked is not None and now.at_seconds - asked >= FREE_SECONDS:
                lane = replace(lane, freed=True)
            lanes.append(lane)
        return replace(snapshot, lanes=lanes)

    def _watch(self, snapshot: Snapshot, now: Now) -> list[Decision]:
        """Take the readings of all cards; return what low memory asks for."""
        found: list[Decision] = []
        for lane in snapshot.cards().values():
            thermal = self._thermals.get(lane.card, Thermal())
            self._thermals[lane.card] = thermal.read(lane.celsius, now, self.rules.thermal)
            idle = not any(one.running for one in snapshot.lanes if one.card == lane.card)
            low = self.rules.limits.min_free_bytes
            # Warning and the lighter jobs come at once, the rest one by one.
            for _ in Relief:
                before = self._pressures.get(lane.card, Pressure())
                after, taken = before.read(lane.title, lane.room_bytes, low, now, idle=idle)
                self._pressures[lane.card] = after
                if taken is None:
                    break
                found.append(Relieve(lane.place, taken))
                if taken.relief is Relief.CLEAR and not lane.freed:
                    self._freeing[lane.place] = now.at_seconds
                    found.append(Free(lane.place, taken.words))
                if not after.taken:
                    break
        return found

    def _drained(self, snapshot: Snapshot, now: Now) -> list[Decision]:
        found: list[Decision] = []
        for lane in snapshot.lanes:
            drains = snapshot.orders.of(lane.place) is Mode.DRAINING
            holds = lane.ours_bytes >= WORTH_FREEING and not lane.freed and not lane.running
            if drains and holds and lane.place not in self._freeing:
                self._freeing[lane.place] = now.at_seconds
                found.append(Free(lane.place, f"{lane.title} is drained and gives back memory."))
        return found

    def _start(self, snapshot: Snapshot, holds: list[Hold], now: Now) -> tuple[list[Start], Chosen]:
        """Return all starts, one after the other, each as if those before it ran."""
        shut = {hold.place for hold in holds if hold.kind is not Kind.LOW_MEMORY}
        shut |= {place for place in self._freeing if not _freed(snapshot, place)}
        failing = {hold.place for hold in holds if hold.kind in _FAILING}
        away = {lane.place: lane.title for lane in snapshot.lanes if lane.place in failing}
        overtaken = dict(self._overtaken)
        starts: list[Start] = []
        while True:
            free = self._open(snapshot, shut)
            chooser = Chooser(
                snapshot, free, away, self._asking(snapshot, now), overtaken, self.rules.limits,
                now.at_unix,
            )  # fmt: skip
            chosen = chooser.next()
            start = chosen.start
            if start is None:
                self._note_waits(chosen, now)
                return starts, chosen
            probe = self.breaker(start.place).at(now).state is State.HALF_OPEN
            start = replace(start, probe=probe)
            starts.append(start)
            self._offered[start.job_id] = start
            for other in start.overtakes:
                overtaken[other] = overtaken.get(other, 0) + 1
            job = next(one for one in snapshot.waiting if one.job_id == start.job_id)
            snapshot = snapshot.taken(start.place, job)

    def _open(self, snapshot: Snapshot, shut: Collection[str]) -> frozenset[str]:
        found = set()
        for lane in snapshot.lanes:
            running = sum(bool(one.running) for one in snapshot.lanes if one.card == lane.card)
            room = room_for_second(lane, running, self.rules.limits)
            if not lane.running and lane.place not in shut and not room:
                found.add(lane.place)
        return frozenset(found)

    def _asking(self, snapshot: Snapshot, now: Now) -> Any:
        titles = {lane.card: lane.title for lane in snapshot.lanes if lane.running}

        def ask(job: Waiting, lane: Lane) -> Admission:
            since = self._blocked.get(job.job_id)
            waited = 0.0 if since is None else now.at_seconds - since
            beside = titles.get(lane.card, "")
            answer = admit(job, lane, self.rules.limits, beside=beside, waited_seconds=waited)
            pressed = self._pressures.get(lane.card, Pressure()).lighter
            if answer.answer is Answer.START and pressed and job.lighter and not job.anyway:
                lighter = job.lighter[0]
                words = f"Memory was low just now, so it runs lighter: {lighter.words}."
                return Admission(Answer.START_LIGHTER, words, 0.0, lighter)
            return answer

        return ask

    def _note_waits(self, chosen: Chosen, now: Now) -> None:
        """Keep the time of those that wait for memory which others hold.

        Whose patience is at its end stays so until it begins: else it would
        keep its lanes for itself again after every job.
        """
        over = now.at_seconds - self.rules.limits.patience_seconds
        kept = {job_id: since for job_id, since in self._blocked.items() if since <= over}
        for job_id, answer in chosen.waits.items():
            if answer.left_seconds is not None:
                kept[job_id] = self._blocked.get(job_id, now.at_seconds)
        self._blocked = kept

    def _next_look(
        self, snapshot: Snapshot, holds: list[Hold], chosen: Chosen, now: Now
    ) -> float | None:
        if not snapshot.waiting and not any(one.taken for one in self._pressures.values()):
            return None
        found = [hold.left_seconds for hold in holds if hold.left_seconds is not None]
        found += [one.left_seconds for one in chosen.waits.values() if one.left_seconds is not None]
        if chosen.waits or chosen.aside or any(hold.kind is Kind.THERMAL for hold in holds):
            found.append(LOOK_SECONDS)
        found += [
            job.not_before_unix - now.at_unix
            for job in snapshot.waiting
            if job.not_before_unix is not None and job.not_before_unix > now.at_unix
        ]
        change = next_quiet_seconds(snapshot.orders, now)
        found += [] if change is None else [change]
        freeing = (at + FREE_SECONDS - now.at_seconds for at in self._freeing.values())
        found += [left for left in freeing if left > 0]
        for card in snapshot.cards():
            idle = not any(one.running for one in snapshot.lanes if one.card == card)
            soon = self._pressures.get(card, Pressure()).next_seconds(now, idle=idle)
            found += [] if soon is None else [soon]
        return max(SOONEST_SECONDS, min(found)) if found else None

    # -- across restarts ------------------------------------------------------

    def to_json(self, now: Now) -> dict[str, Any]:
        """Return what must survive a restart, as plain values."""
        return {
            "breakers": {place: one.to_json(now) for place, one in self._breakers.items()},
            "overtaken": dict(self._overtaken),
            "streak": self.streak,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any], now: Now, rules: Rules | None = None) -> Scheduler:
        """Rebuild one; what cannot be read is left out."""
        made = Scheduler(rules)
        breakers, overtaken = data.get("breakers"), data.get("overtaken")
        if isinstance(breakers, Mapping):
            for place, one in breakers.items():
                if isinstance(one, Mapping):
                    read = Breaker.from_json(one, now, made.rules.breaker)
                    made._breakers[str(place)] = read
        if isinstance(overtaken, Mapping):
            made._overtaken = {str(job): count for job, count in overtaken.items() if _whole(count)}
        streak = data.get("streak")
        made.streak = streak if isinstance(streak, int) and _whole(streak) else 0
        return made


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _freed(snapshot: Snapshot, place: str) -> bool:
    lane = snapshot.lane(place)
    return lane is None or lane.freed


def _told(snapshot: Snapshot, chosen: Chosen) -> list[Decision]:
    """Return what is to be said of jobs that were looked at and do not begin."""
    found: list[Decision] = []
    for job in snapshot.waiting:
        if job.job_id in chosen.aside:
            answer = chosen.aside[job.job_id]
            never = answer.answer is Answer.NEVER
            hint = (
                "Edit the job: a smaller size, fewer frames, or another place to run it."
                if never
                else "Close what holds the memory, edit the job, or start it anyway."
            )
            known = any(snapshot.lane(place) is not None for place in job.places)
            category = Category.INSUFFICIENT_VRAM if known else Category.WORKER_UNAVAILABLE
            problem = Problem(category, answer.words, hint)
            found.append(SetAside(job.job_id, problem, never))
        elif job.job_id in chosen.waits:
            answer = chosen.waits[job.job_id]
            found.append(Wait(job.job_id, answer.words, answer.left_seconds))
    return found
