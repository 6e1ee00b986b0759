"""The flight recorder: what a sample costs, and what a day of them takes.

Run as `python -m tests.benchmarks.bench_recorder`; exit code 1 when a promise is broken.

Two baselines stand in the same run: appending to a list, which is the floor, and an
INSERT for every sample, which is the obvious way. Bytes on the disk stand beside
those of the same numbers as plain floats, and beside zlib alone.
"""

from __future__ import annotations

import gc
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from core.gpu import traces
from core.gpu.nvml import Nvml
from core.gpu.readings import DeviceReading, Reading, SystemReading
from core.gpu.sampler import Sampler
from core.gpu.simulated import SimulatedDriver
from core.ledger import Ledger
from core.ledger.store import Store, join_store
from core.recorder.chunks import Chunker
from core.recorder.codec import decode, encode
from core.recorder.past import readings_between
from core.recorder.recorder import Recorder

SAMPLES = 60_000
DAY = 864_000
APPEND_PROMISE_US = 5.0
DAY_PROMISE_MB = 20.0
MB = 2**20


class Clock:
    """A scripted clock."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def unix(self) -> float:
        """Return a wall clock that goes with it."""
        return 1.8e9 + self.now


def noisy(reading: Reading, chance: random.Random) -> Reading:
    """Return a reading with what real ones have: allocators that breathe, sensors that sway."""
    devices = []
    for device in reading.devices:
        used = (device.used_bytes or 0) + 2 * MB * round(chance.gauss(0, 1.5))
        devices.append(
            DeviceReading(
                device.index,
                device.name,
                device.total_bytes,
                used,
                min(100.0, max(0.0, round((device.utilisation_percent or 0) + chance.gauss(0, 4)))),
                round((device.temperature_celsius or 0) + chance.gauss(0, 0.4)),
                max(0.0, round((device.power_watts or 0) + chance.gauss(0, 6), 3)),
                device.processes,
            )
        )
    system = reading.system
    shaken = SystemReading(
        system.total_bytes,
        system.used_bytes + round(chance.gauss(0, 3e6)),
        system.worker_rss_bytes,
        system.panel_rss_bytes,
        max(0.0, 20 + chance.gauss(0, 5)),
    )
    return Reading(reading.at_seconds, tuple(devices), shaken, reading.driver)


def recorded(name: str, count: int) -> list[Reading]:
    """Return `count` readings at 10 Hz of a trace that ships, with noise."""
    clock, chance = Clock(), random.Random(7)
    driver = SimulatedDriver(traces.load(traces.find(name)), lambda: 4242, clock)
    sampler = Sampler(
        nvml=Nvml(lambda: driver, clock), process_name=driver.process_name, clock=clock
    )
    readings = []
    for number in range(count):
        clock.now = 1000.0 + number / 10 + abs(chance.gauss(0, 0.0008))
        readings.append(noisy(sampler.read(), chance))
    return readings


def each_us(action: Callable[[], object], count: int) -> float:
    """Return microseconds of the processor that an action takes for each of `count`."""
    gc.collect()
    started = time.process_time()
    action()
    return (time.process_time() - started) / count * 1e6


def promise(text: str, value: float, unit: str, limit: float) -> bool:
    """Print a figure with its promise; return whether it is kept."""
    kept = value <= limit
    word = "kept" if kept else "BROKEN"
    print(f"{text:<58} {value:9.2f} {unit:<3} at most {limit:g}: {word}")
    return kept


def naive(path: Path, readings: list[Reading]) -> float:
    """Baseline: a row for every sample, a transaction for each as they come."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL").fetchone()
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute(
        "CREATE TABLE samples (device INTEGER, at REAL, a REAL, b REAL, c REAL, d REAL, "
        "used REAL, load REAL, temperature REAL, power REAL)"
    )

    def insert() -> None:
        for reading in readings:
            for device in reading.devices:
                database.execute(
                    "INSERT INTO samples VALUES (?, ?, 0, 0, 0, 0, ?, ?, ?, ?)",
                    (
                        device.index,
                        reading.at_seconds,
                        device.used_bytes,
                        device.utilisation_percent,
                        device.temperature_celsius,
                        device.power_watts,
                    ),
                )
            system = reading.system
            database.execute(
                "INSERT INTO samples VALUES (-1, ?, 0, 0, 0, 0, ?, ?, NULL, NULL)",
                (reading.at_seconds, system.used_bytes, system.load_percent),
            )

    spent = each_us(insert, len(readings))
    database.close()
    return spent


def append_cost(folder: Path, readings: list[Reading]) -> bool:
    """Measure what a reading of one GPU and of main memory costs, all of it."""
    Ledger.open(folder / "a.sqlite").close()
    clock = Clock()
    recorder = Recorder(folder / "a.sqlite", clock=clock, unix=clock.unix)
    store = join_store(folder / "a.sqlite")
    clock.now = readings[0].at_seconds
    recorder.set_busy(True)
    writes: list[float] = []
    fed = 0.0

    def record() -> None:
        nonlocal fed
        for start in range(0, len(readings), 100):
            part = readings[start : start + 100]
            before = time.process_time()
            for reading in part:
                clock.now = reading.at_seconds
                recorder.feed(reading)
            between = time.process_time()
            list(recorder.step(store))
            fed += between - before
            writes.append((time.process_time() - between) * 1e3)

    whole = each_us(record, len(readings))
    fed_us = fed / len(readings) * 1e6
    kept: list[Reading] = []
    floor = each_us(lambda: [kept.append(reading) for reading in readings], len(readings))
    rows = naive(folder / "naive.sqlite", readings[:20_000])
    writes.sort()
    print(f"a reading is one GPU and main memory, 2 × 8 columns; {len(readings)} of them")
    print(f"floor: list.append {floor:.3f} µs; baseline: both INSERTed at once {rows:.1f} µs")
    chunker = Chunker()
    split = each_us(
        lambda: [chunker.add(clock.unix(), reading) for reading in readings], len(readings)
    )
    good = promise("append a sample of 8 columns", fed_us + split / 2, "µs", APPEND_PROMISE_US)
    print(f"  of it {fed_us:.2f} in the sampler's thread ({fed_us / floor:.1f} × list.append)")
    print(f"  packing and writing, every 10 s anew, come to {(whole - split) / 2:.2f} µs more")
    print(f"  together a reading takes {whole:.1f} µs")
    share = whole * 10 / 1e6 * 100
    print(f"  {share:.3f} % of a core at 10 Hz; {rows / whole:.1f} × less than INSERT")
    median, high = writes[len(writes) // 2], writes[int(len(writes) * 0.99)]
    print(f"  one step of the recorder's own thread: median {median:.2f} ms, p99 {high:.2f} ms")
    store.close()
    return good


def day_on_disk(folder: Path) -> bool:
    """Measure what a day of each shipped trace takes, samples alone and the whole file."""
    good, worst, worst_name = True, 0.0, ""
    for name in traces.shipped():
        readings = recorded(name, 6000)
        ledger = Ledger.open(folder / f"{name}.sqlite")
        empty = ledger.store.read("SELECT page_count * page_size FROM pragma_page_count, "
                                  "pragma_page_size")[0][0]  # fmt: skip
        clock = Clock()
        clock.now = readings[0].at_seconds
        recorder = Recorder(ledger.store.path, clock=clock, unix=clock.unix)
        store = join_store(ledger.store.path)
        for reading in readings:
            clock.now = reading.at_seconds
            recorder.feed(reading)
        recorder.stop()
        list(recorder.step(store))
        gpu = store.read("SELECT sum(bytes), sum(count) FROM readings WHERE device = 0")[0]
        both = store.read("SELECT sum(bytes) FROM readings")[0][0]
        pages = store.read("SELECT page_count * page_size FROM pragma_page_count, "
                           "pragma_page_size")[0][0] - empty  # fmt: skip
        scale = DAY / gpu[1] / 1e6
        print(
            f"{name:<22} GPU {gpu[0] * scale:5.1f} MB a day, with main memory "
            f"{both * scale:5.1f}, in the file {pages * scale:5.1f}; "
            f"GPU floor {floor_mb(store):.1f}"
        )
        if gpu[0] * scale > worst:
            worst, worst_name = gpu[0] * scale, name
        good &= pages * scale <= DAY_PROMISE_MB
        store.close()
        ledger.close()
    good &= promise(f"a day at 10 Hz × 8 columns, worst: {worst_name}", worst, "MB", DAY_PROMISE_MB)
    print(f"  as plain floats {9 * 8 * DAY / 1e6:.0f} MB")
    return good


def floor_mb(store: Store) -> float:
    """Return the MB of a day if every difference took its share of entropy, and no more.

    Columns that move alike are counted once.
    """
    sql = """SELECT samples FROM samples JOIN readings ON key = readings
        WHERE device = 0 ORDER BY key"""
    parts = [decode(blob) for (blob,) in store.read(sql)]
    times = np.diff(np.concatenate([part[0] for part in parts]) * 1000)
    rows = np.diff(np.concatenate([part[1] for part in parts]), axis=0)
    series = {tuple(np.rint(column * 10)) for column in (times, *np.nan_to_num(rows).T)}
    bits = 0.0
    for column in series:
        _, counts = np.unique(column, return_counts=True)
        shares = counts / counts.sum()
        bits -= float((shares * np.log2(shares)).sum())
    return bits / 8 * DAY / 1e6


def day_back(folder: Path) -> None:
    """Measure reading a day of one GPU back, and the memory that recording it took."""
    readings = recorded("wan-i2v-24gb", 600)
    rows = [(0.0, 1e9, 1e9, 1e9, float(item.devices[0].used_bytes or 0), 50.0, 60.0,
             float(item.devices[0].power_watts or 0)) for item in readings]  # fmt: skip
    ledger = Ledger.open(folder / "day.sqlite")
    with ledger.store.write() as database:
        database.execute("INSERT INTO recordings VALUES (1, 'boot', 'owner', 0)")
        for minute in range(1440):
            at = minute * 60
            blob, edges = encode([1000 * at + number * 100 for number in range(600)], rows)
            database.execute(
                "INSERT INTO readings VALUES (?, 1, 0, 'Card', 1000, ?, ?, ?, ?, 600, ?, ?)",
                (minute + 1, at, at + 59.9, 1.8e9 + at, 1.8e9 + at + 59.9, len(blob), edges),
            )
            database.execute("INSERT INTO samples VALUES (?, ?, NULL)", (minute + 1, blob))
    path = ledger.store.path
    for words, span, columns in (
        ("24 h, every sample", 86_400, None),
        ("24 h in 1600 columns", 86_400, 1600),
        ("24 h in 700 columns", 86_400, 700),
        ("1 h in 1600 columns", 3600, 1600),
    ):
        times = []
        for _ in range(5):
            started = time.perf_counter()
            found = readings_between(path, 1.8e9 + 86_400 - span, 1.8e9 + 86_400, columns)
            times.append((time.perf_counter() - started) * 1e3)
        print(f"read back {words:<22} {sorted(times)[2]:7.1f} ms, {len(found[0].at_unix)} entries")
    ledger.close()


def memory_of_a_day(folder: Path) -> None:
    """Print what a long run adds to the process."""
    Ledger.open(folder / "m.sqlite").close()
    clock = Clock()
    recorder = Recorder(folder / "m.sqlite", clock=clock, unix=clock.unix)
    store = join_store(folder / "m.sqlite")
    readings = recorded("wan-i2v-24gb", 1200)
    recorder.set_busy(True)
    held = [0, 0]
    for turn in range(60):
        for number in range(0, 1200, 100):
            for item in readings[number : number + 100]:
                clock.now = 1000 + turn * 120 + item.at_seconds - 1000
                recorder.feed(Reading(clock.now, item.devices, item.system, None))
            list(recorder.step(store))
        gc.collect()
        held[turn >= 10] = max(held[turn >= 10], psutil.Process(os.getpid()).memory_info().rss)
    print(f"two hours at 10 Hz add {(held[1] - held[0]) / MB:.1f} MB after the first 20 minutes")
    store.close()


def main() -> int:
    """Measure, print; return 1 when a promise is broken."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = append_cost(folder, recorded("wan-i2v-24gb", SAMPLES))
        good &= day_on_disk(folder)
        day_back(folder)
        memory_of_a_day(folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
