"""The queue's model: pages, sections, order, progress, drops."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QModelIndex, QPersistentModelIndex, Qt
from PySide6.QtTest import QAbstractItemModelTester

from core.events import MemoryRead, PhaseStarted, Progressed, Sampled
from core.jobs import Job, JobState, Phase
from core.ledger import Ledger
from core.queue import Group
from tests.widgets.queue_source import MemoryQueue, job, row
from widgets import queue_words as words
from widgets.queue_model import MIME, PAGE, PAGES_KEPT, QueueModel, Role

FATAL = QAbstractItemModelTester.FailureReportingMode.Fatal
W, R, D, F = JobState.WAITING, JobState.RUNNING, JobState.DONE, JobState.FAILED


def mixed() -> MemoryQueue:
    waiting = [row(number, W) for number in range(2, 7)]
    return MemoryQueue([row(1, R), *waiting, row(8, D), row(9, F)])


def titles(model: QueueModel) -> list[str]:
    return [model.index(at).data() for at in range(model.rowCount())]


def sampled(number: int, step: int = 13) -> Sampled:
    return Sampled(
        job_id=job(number).id, step=step, steps=20, seconds_per_step=6.8, seconds_left=84.0
    )


@pytest.fixture
def model(qapp):
    made = QueueModel(mixed())
    tester = QAbstractItemModelTester(made, FATAL)
    yield made
    del tester


def test_sections_stand_in_one_list_with_their_counts(model):
    assert titles(model) == [
        "Scene 1",
        "Next · 5 waiting",
        *(f"Scene {number}" for number in range(2, 7)),
        "Finished · 2",
        "Scene 8",
        "Scene 9",
    ]
    assert model.header_rows() == [1, 7]


def test_headers_cannot_be_selected_and_only_waiting_jobs_are_dragged(model):
    flag = Qt.ItemFlag
    chosen = [bool(model.flags(model.index(r)) & flag.ItemIsSelectable) for r in range(10)]
    assert chosen == [True, False, True, True, True, True, True, False, True, True]
    dragged = [r for r in range(10) if model.flags(model.index(r)) & flag.ItemIsDragEnabled]
    assert dragged == [2, 3, 4, 5, 6]


def test_an_empty_queue_has_no_headers(qapp):
    assert QueueModel(MemoryQueue()).rowCount() == 0


def test_a_pause_is_said_in_the_header(model, qtbot):
    with qtbot.waitSignal(model.dataChanged):
        model.set_paused(True)
    assert model.index(1).data() == "Next · 5 waiting · paused"


def test_progress_touches_one_row_once(model):
    seen = []
    model.dataChanged.connect(lambda first, last, roles: seen.append((first.row(), last.row())))
    model.apply(sampled(1))
    model.apply(sampled(1))
    assert seen == [(0, 0)]
    progress = model.index(0).data(Role.PROGRESS)
    assert (progress.text, progress.fraction, progress.seconds_left) == ("sampling 13/20", 0.65, 84)
    spoken = model.index(0).data(Qt.ItemDataRole.AccessibleTextRole)
    assert spoken == "Scene 1, sampling 13/20, starter · 512×320 · 16 frames, 1:24 left"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (PhaseStarted(job_id=job(1).id, phase=Phase.LOAD), "loading"),
        (Progressed(job_id=job(1).id, phase=Phase.DECODE, done=3, total=16), "decoding 3/16"),
    ],
)
def test_every_phase_has_its_word(model, event, text):
    model.apply(event)
    assert model.index(0).data(Role.PROGRESS).text == text


def test_events_of_other_jobs_and_without_progress_change_nothing(model):
    seen = []
    model.dataChanged.connect(lambda *_: seen.append(1))
    model.apply(sampled(4))
    model.apply(sampled(77))
    model.apply(MemoryRead(job_id=job(1).id, rss_bytes=1, vram_bytes=None))
    assert seen == []


def test_progress_of_an_earlier_attempt_is_not_shown_again(qapp):
    source = mixed()
    model = QueueModel(source)
    model.apply(sampled(1))
    source.set(1, D)
    model.refresh()
    source.set(1, R)
    model.refresh()
    assert model.index(0).data(Role.PROGRESS) is None


def test_a_page_is_read_where_somebody_looks_and_nowhere_else(qapp):
    source = MemoryQueue([row(number, W) for number in range(1, 1001)])
    model = QueueModel(source)
    assert source.asked == 0
    assert model.index(500).data() == "Scene 500"
    assert (source.calls, source.asked) == (1, PAGE)
    for at in range(3 * PAGE, 4 * PAGE):
        model.index(at).data()
    assert source.calls == 1


def test_few_pages_are_kept(qapp):
    source = MemoryQueue([row(number, W) for number in range(1, 40 * PAGE)])
    model = QueueModel(source)
    for number in range(PAGES_KEPT + 1):
        model.index(number * PAGE + 1).data()
    read = source.calls
    model.index(PAGES_KEPT * PAGE + 5).data()
    assert source.calls == read
    model.index(1).data()
    assert source.calls == read + 1


def test_a_reorder_carries_selected_rows_along(qapp):
    source = mixed()
    model = QueueModel(source)
    tester = QAbstractItemModelTester(model, FATAL)
    kept = QPersistentModelIndex(model.index(5))
    assert kept.data() == "Scene 5"
    source.order[Group.WAITING] = [5, 2, 3, 4, 6]
    model.refresh()
    assert (kept.row(), kept.data()) == (2, "Scene 5")
    del tester


def test_random_changes_end_in_the_sources_order(qapp):
    draw = random.Random(11)
    source = MemoryQueue([row(number, W) for number in range(1, 60)])
    model = QueueModel(source)
    tester = QAbstractItemModelTester(model, FATAL)
    kinds = set()
    model.rowsInserted.connect(lambda *_: kinds.add("insert"))
    model.rowsRemoved.connect(lambda *_: kinds.add("remove"))
    model.layoutChanged.connect(lambda *_: kinds.add("move"))
    model.modelReset.connect(lambda *_: kinds.add("reset"))
    kept = {}
    number = 100
    for _ in range(250):
        keys = list(source.all)
        match draw.randrange(5):
            case 0 | 1 if keys:
                source.set(draw.choice(keys), draw.choice([W, R, D, F]), first=draw.random() < 0.5)
            case 2 if keys:
                source.remove(*draw.sample(keys, min(len(keys), draw.randrange(1, 4))))
            case 3:
                number += 1
                source.add(row(number, W))
            case _:
                draw.shuffle(source.order[Group.WAITING])
        model.refresh()
        expected = []
        for group in Group:
            expected += [source.all[key].job.title for key in source.order[group]]
        heads = set(model.header_rows())
        assert [t for at, t in enumerate(titles(model)) if at not in heads] == expected
        for title, at in kept.items():
            assert not at.isValid() or at.data() == title
        kept = {model.index(at).data(): QPersistentModelIndex(model.index(at)) for at in (0, 3)}
        kept = {title: at for title, at in kept.items() if " · " not in str(title)}
    assert kinds == {"insert", "remove", "move", "reset"}
    del tester


def test_refresh_with_ids_reads_only_the_pages_they_stand_on(qapp):
    source = MemoryQueue([row(number, W) for number in range(1, 1001)])
    model = QueueModel(source)
    for at in (1, 500):
        model.index(at).data()
    seen = []
    model.dataChanged.connect(lambda first, last: seen.append((first.row(), last.row())))
    source.calls = 0
    model.refresh([job(1).id])
    assert seen == [(1, 1)]
    model.index(500).data()
    assert source.calls == 0
    model.index(1).data()
    assert source.calls == 1


def drop(model, rows, at, onto=None):
    """Drop the jobs of `rows` before row `at`, or upon row `onto`; return what was asked."""
    asked = []
    model.move_wanted.connect(lambda ids, before: asked.append((ids, before)))
    data = model.mimeData([model.index(r) for r in rows])
    parent = model.index(onto) if onto is not None else QModelIndex()
    spot = -1 if onto is not None else at
    action = Qt.DropAction.MoveAction
    taken = model.dropMimeData(data, action, spot, 0, parent)
    assert taken == model.canDropMimeData(data, action, spot, 0, parent)
    return asked


def ids(*numbers: int) -> list[str]:
    return [job(number).id for number in numbers]


@pytest.mark.parametrize(
    ("rows", "at", "expected"),
    [
        ([5], 2, (ids(5), job(2).id)),
        ([5, 3], 2, (ids(3, 5), job(2).id)),
        ([2, 3], 5, (ids(2, 3), job(5).id)),
        ([2], 7, (ids(2), None)),
        ([2], -1, (ids(2), None)),
        ([3, 4], 3, (ids(3, 4), job(5).id)),
        ([0, 2, 8], 4, (ids(2), job(4).id)),
    ],
)
def test_a_drop_among_waiting_jobs_asks_for_the_move(model, rows, at, expected):
    assert drop(model, rows, at) == [expected]


def test_a_drop_upon_a_waiting_job_goes_before_it(model):
    assert drop(model, [6], None, onto=3) == [(ids(6), job(3).id)]


@pytest.mark.parametrize("at", [0, 1, 8, 9, 10])
def test_a_drop_outside_the_waiting_jobs_is_refused(model, at):
    assert drop(model, [3], at) == []


def test_foreign_data_is_refused(model):
    data = model.mimeData([model.index(2)])
    assert data.formats() == [MIME]
    data.removeFormat(MIME)
    data.setText("a prompt")
    assert not model.canDropMimeData(data, Qt.DropAction.MoveAction, 2, 0, QModelIndex())


def test_the_ledger_is_a_source(qapp, tmp_path: Path):
    ledger = Ledger.open(tmp_path / "ledger.db")
    try:
        ledger.enqueue([job(number) for number in range(1, 6)])
        ledger.begin(job(1).id)
        model = QueueModel(ledger)
        tester = QAbstractItemModelTester(model, FATAL)
        assert titles(model)[:3] == ["Scene 1", "Next · 4 waiting", "Scene 2"]
        model.move_wanted.connect(ledger.move)
        data = model.mimeData([model.index(4), model.index(5)])
        assert model.dropMimeData(data, Qt.DropAction.MoveAction, 2, 0, QModelIndex())
        model.refresh()
        assert titles(model)[2:] == ["Scene 4", "Scene 5", "Scene 2", "Scene 3"]
        del tester
    finally:
        ledger.close()


def test_a_job_is_told_by_its_recipes_title_and_one_of_old_by_its_id() -> None:
    assert words.what(job(1)).startswith("starter · ")
    named = replace(job(1), recipe_title="AnimateDiff · text → video")
    assert words.what(named) == "AnimateDiff · text → video · 512×320 · 16 frames"
    again = Job.from_json(json.loads(named.dumps()))
    assert again == named
    old = {key: value for key, value in named.to_json().items() if key != "recipe_title"}
    assert Job.from_json(old).made_with == "starter"
