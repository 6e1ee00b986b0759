"""The doctor: children that hang, die and lie, and what is said about each machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import engine_env
from core.doctor import (
    asking,
    cards,
    child_engine,
    drives,
    environment,
    kept,
    media,
    servers,
    surroundings,
    versions,
)
from core.doctor.asking import NoAnswerError, StoppedError, Why, ask, engine_command, own_command
from core.doctor.context import answer_of
from core.doctor.findings import Finding, Looking, Repair, State, sorted_worst_first, worst
from core.doctor.report import amiss, as_json, as_text
from core.doctor.run import CHECKS, Check, examine
from core.engine_env.checking import Checked
from core.engine_env.steps import Progress
from core.errors import Category, Problem
from core.ledger import Ledger
from core.outputs import encode
from core.private_words import Scrubber
from core.settings import Settings
from tests.core.doctor_scripts import context, real, script, seen, without_packages

ROOT = Path(__file__).resolve().parents[2]
Usage = namedtuple("Usage", "total used free")


def never() -> bool:
    return False


def found(items: Any) -> list[Finding]:
    return [item for item in items if isinstance(item, Finding)]


# ---- children ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why", "said"),
    [
        ("exec sleep 600", Why.HUNG, "0 s"),
        ("echo hello; echo '{\"doctor\": 5}'; echo '{\"doctor\": {}}'", Why.RUBBISH, "without"),
        ("kill -9 $$", Why.DIED, "SIGKILL"),
        ("echo first >&2; echo boom >&2; exit 3", Why.DIED, "boom"),
        ("exit 4", Why.DIED, "code 4"),
    ],
)  # fmt: skip
def test_a_python_that_does_not_answer(tmp_path: Path, text: str, why: Why, said: str) -> None:
    command = engine_command(script(tmp_path, text), "versions")
    began = time.monotonic()
    with pytest.raises(NoAnswerError) as told:
        answer_of(ask(command, 0.4 if why is Why.HUNG else 20.0, never))
    assert told.value.why is why
    assert said in told.value.said
    assert time.monotonic() - began < 10


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError) as told:
        answer_of(ask(engine_command(tmp_path / "none", "versions"), 5.0, never))
    assert told.value.why is Why.ABSENT


def test_an_endless_flood_of_words_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError) as told:
        answer_of(ask([str(script(tmp_path, "exec yes"))], 0.5, never))
    assert told.value.why is Why.HUNG


def test_stopping_ends_the_child_and_what_it_started(tmp_path: Path) -> None:
    mark = "600.125"
    command = [str(script(tmp_path, f"sleep {mark} & echo up >&2; wait"))]
    asked = iter([False, False, False, False, True])
    began = time.monotonic()
    with pytest.raises(StoppedError):
        answer_of(ask(command, 60.0, lambda: next(asked)))
    assert time.monotonic() - began < 5
    deadline = time.monotonic() + 3
    while any(mark in " ".join(_words(p)) for p in psutil.process_iter()):
        assert time.monotonic() < deadline, "what the child started goes on"
        time.sleep(0.05)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_without_room_for_what_it_prints_it_is_asked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> Any:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(asking.tempfile, "TemporaryFile", fails)
    with pytest.raises(NoAnswerError) as told:
        answer_of(ask(engine_command(script(tmp_path, "exit 4"), "versions"), 20.0, never))
    assert told.value.why is Why.DIED
    gone = context(tmp_path, {}, temp=tmp_path / "none")
    (finding,) = found(examine(gone, [Check("codecs", "Formats", media.codecs)]))
    assert finding.state is State.BROKEN
    assert "No such file" in finding.text


def test_a_look_that_is_not_known_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError) as told:
        answer_of(ask(own_command("nonsense"), 20.0, never))
    assert "nonsense" in told.value.said


def test_killing_the_doctor_leaves_no_process(tmp_path: Path) -> None:
    """While the starter clip is made there is a child, and a worker of its own."""
    code = f"""
from pathlib import Path
from core.doctor import media
from hypothesis import given
from hypothesis import strategies as st

from tests.core.doctor_scripts import real
for item in media.clip(real(Path({str(tmp_path)!r}))):
    print(item, flush=True)
"""
    doctor = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    below: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while len(below) < 2:
        assert time.monotonic() < deadline
        assert doctor.poll() is None
        below = psutil.Process(doctor.pid).children(recursive=True)
        time.sleep(0.02)
    doctor.send_signal(signal.SIGKILL)
    doctor.wait()
    gone, alive = psutil.wait_procs(below, timeout=10)
    assert len(gone) >= 2
    assert not alive


# ---- versions ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pyside", "python", "state"),
    [
        ("6.11.3", "3.11.7", State.OK),
        ("6.12.0", "3.11.7", State.BROKEN),
        ("6.12.1", "3.12.4", State.OK),
        ("", "3.13.0", State.OK),
    ],
)
def test_the_pyside_that_loses_references(
    tmp_path: Path, pyside: str, python: str, state: State
) -> None:
    has = {"framedeck": "0.1.0", "python": python, "pyside6": pyside, "qt": pyside}
    (told,) = versions.program(context(tmp_path, {}, versions=has))
    assert told.state is state
    assert bool(told.fix) == (state is State.BROKEN)


def test_a_python_without_torch(tmp_path: Path) -> None:
    (told,) = versions.engine(real(tmp_path, without_packages(tmp_path)))
    assert told.state is State.BROKEN
    assert "lacks torch" in told.text
    assert told.repair == Repair("reinstall")


@pytest.mark.parametrize("text", ["exec sleep 600", "echo hi", "kill -9 $$"])
def test_an_engine_that_misbehaves_is_one_finding_with_its_fix(tmp_path: Path, text: str) -> None:
    python = script(tmp_path, text)
    asks = lambda what, arguments, _, *, engine: ask(  # noqa: E731
        engine_command(python, what, *arguments), 0.4, never
    )
    for look in (versions.engine, media.codecs, media.clip):
        told = found(look(context(tmp_path, {}, ask=asks)))
        assert [one.state for one in told] == [State.BROKEN]
        assert told[0].fix
    # Nothing of it stays in the folder of temporary files.
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


def test_no_engine_yet_asks_for_one_and_for_nothing_else(tmp_path: Path) -> None:
    told = context(tmp_path, {"gpus": seen(cards=0, gpus=[], cuda=None, cuda_driver=None)}, None)
    (engine,) = versions.engine(told)
    assert (engine.state, engine.repair) == (State.WARNING, Repair("set_up"))
    assert found(media.codecs(told)) == found(media.clip(told)) == []
    assert [one.id for one in cards.check(told)] == ["driver"]


def test_versions_that_were_not_tried_are_named(tmp_path: Path) -> None:
    told = real(tmp_path, wanted=("torch>=99", "numpy>=1", "absent-thing>=2"))
    (engine,) = versions.engine(told)
    assert engine.state is State.WARNING
    assert "torch>=99 (it is 2.13.0+cpu)" in engine.text
    assert "absent-thing" in engine.text
    assert "numpy>=1" not in engine.text


def test_the_files_of_an_environment_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = context(tmp_path, {})
    assert found(environment.files(told)) == []  # That of a checkout is not.
    monkeypatch.setenv("FRAMEDECK_ENGINE", "managed")
    damaged = Problem(Category.STORAGE, "2 packages are damaged.", "Repair the engine.")
    for checked, state in (
        (Checked("cpu-1"), State.OK),
        (Checked("cpu-1", problem=damaged), State.BROKEN),
    ):
        steps = [Progress("check", "torch", 5, 10), checked]
        monkeypatch.setattr(engine_env, "check", lambda *_, found=steps, **__: iter(found))
        looking, finding = environment.files(told)
        assert looking == Looking("Engine's files: torch", 0.5)
        assert isinstance(finding, Finding)
        assert finding.state is state
        assert finding.repair == (None if state is State.OK else Repair("repair"))
    assert "2 packages are damaged." in finding.text
    assert finding.repair is not None
    assert finding.repair.title == "Repair engine"
    assert environment.told(Checked("cpu-1"), outdated=True).state is State.WARNING
    assert list(environment.files(context(tmp_path, {}, None))) == []


def test_an_old_python_is_told_by_its_version(tmp_path: Path) -> None:
    answer = {"python": "3.9.2", "bits": 64, "packages": {"torch": "2.1"}, "unmet": []}
    (told,) = versions.engine(context(tmp_path, {"versions": answer}))
    assert told.state is State.BROKEN
    assert "too old" in told.text


# ---- drives --------------------------------------------------------------------


def test_a_folder_is_really_written_to(tmp_path: Path) -> None:
    looked = drives.look_at(tmp_path)
    assert looked["there"]
    assert looked["write_error"] == ""
    assert looked["free_bytes"] > 0
    assert looked["kind"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    wanted = tmp_path / "a" / "b"
    looked = drives.look_at(wanted)
    assert not looked["there"]
    assert drives.writing("outputs", wanted, looked).state is State.OK
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_nobody_may_write_to() -> None:
    # Not even root may make files there.
    folder = Path("/proc")
    told = drives.writing("data", folder, drives.look_at(folder))
    assert told.state is State.BROKEN
    assert "--home" in told.fix


@pytest.mark.parametrize(
    ("free", "name", "state"),
    [
        (10 << 20, "data", State.BROKEN),
        (400 << 20, "outputs", State.BROKEN),
        (3 << 30, "outputs", State.WARNING),
        (900 << 30, "data", State.OK),
        (0, "temp", State.BROKEN),
    ],
)
def test_a_full_drive(tmp_path: Path, free: int, name: str, state: State) -> None:
    looked = drives.look_at(tmp_path, lambda _: Usage(1000 << 30, (1000 << 30) - free, free))
    told = drives.room(name, tmp_path, looked)
    assert told.state is state
    assert ("journal" in told.text) == (name == "data" and state is State.BROKEN)


def test_a_drive_that_does_not_tell_its_room(tmp_path: Path) -> None:
    def fails(_: Path) -> Any:
        raise OSError(5, "Input/output error")

    assert drives.room("data", tmp_path, drives.look_at(tmp_path, fails)).state is State.NOTE


def test_what_a_drive_does_that_bites(tmp_path: Path) -> None:
    looked = {**drives.look_at(tmp_path), "kind": "nfs4", "skew_seconds": -900.0}
    looked["ignores_case"] = True
    told = {one.id: one for one in drives.traps("data", tmp_path, looked)}
    assert told["drive.data"].state is State.WARNING
    assert "network" in told["drive.data"].text
    assert "900 s" in told["clock.data"].text
    assert ("case.data" in told) == sys.platform.startswith("linux")
    far = list(drives.traps("outputs", tmp_path, {**looked, "skew_seconds": 0.0}))
    assert far[0].state is State.NOTE
    fat = {**drives.look_at(tmp_path), "kind": "vfat"}
    assert "4 GB" in next(drives.traps("outputs", tmp_path, fat)).text
    table_full = {**drives.look_at(tmp_path), "no_entries": True}
    assert drives.room("data", tmp_path, table_full).state is State.BROKEN


def test_folders_in_real_children(tmp_path: Path) -> None:
    told = found(drives.check(real(tmp_path)))
    writes = [one for one in told if one.id.startswith("write.")]
    assert [one.state for one in writes] == [State.OK] * 3


# ---- what is kept --------------------------------------------------------------


def test_the_list_of_jobs_whole_damaged_and_absent(tmp_path: Path) -> None:
    told = real(tmp_path)
    path = told.places.ledger
    assert "none yet" in next(kept.ledger(told)).text
    Ledger.open(path).close()
    assert next(kept.ledger(told)).state is State.OK
    damaged = bytearray(path.read_bytes())
    damaged[4096:12288] = os.urandom(8192)
    path.write_bytes(damaged)
    finding = next(kept.ledger(told))
    assert finding.state is State.BROKEN
    assert path.read_bytes() == bytes(damaged), "the doctor only reads"
    path.write_bytes(b"no database at all" * 100)
    assert next(kept.ledger(told)).state is State.BROKEN


def test_the_list_is_read_while_it_is_written(tmp_path: Path) -> None:
    told = real(tmp_path)
    ledger = Ledger.open(told.places.ledger)
    try:
        assert next(kept.ledger(told)).state is State.OK
    finally:
        ledger.close()


def test_settings_are_looked_at_and_left_alone(tmp_path: Path) -> None:
    told = real(tmp_path)
    assert next(kept.settings(told)).state is State.OK
    tmp_path.mkdir(exist_ok=True)
    told.places.settings.write_text('{"version": 1, "theme": "pink", "retries": 2}')
    finding = next(kept.settings(told))
    assert finding.state is State.WARNING
    assert "theme" in finding.text
    assert "retries" not in finding.text
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


# ---- formats and the clip ------------------------------------------------------


def test_a_codec_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codecs = encode._codecs()
    absent = encode.Codec("libsvtav1-is-not-here", "mp4", codecs["av1"].kind)
    monkeypatch.setattr(encode, "_codecs", lambda: {**codecs, "av1": absent})
    looked = child_engine.codecs([str(tmp_path), "h264", "av1"], lambda *_: None)
    assert looked["formats"]["h264"] is None
    told = media.told_codecs(looked)
    assert told.state is State.WARNING
    assert "AV1 · MP4" in told.text
    worse = media.told_codecs({"av": "1", "formats": {"h264": "no encoder"}})
    assert worse.state is State.BROKEN


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({}, State.OK),
        ({"motion": "still"}, State.NOTE),
        ({"background": "night"}, State.WARNING),
        ({"colours": []}, State.WARNING),
        ({"clean": False}, State.WARNING),
    ],
)
def test_what_is_said_of_the_clip(changed: Any, state: State) -> None:
    shown = {
        "colours": ["red"], "shapes": ["ball"], "motion": "bounces", "background": "field",
        "clean": True,
    }  # fmt: skip
    looked = {"faults": [], "frames": 16, "seconds": 7.0, "seen": {**shown, **changed}}
    assert media.told_clip(looked).state is state


def test_a_clip_that_fails_is_told_with_why() -> None:
    told = media.told_clip({"problem": "The model does not fit."})
    assert told.state is State.BROKEN
    assert "does not fit" in told.text
    assert media.told_clip({"faults": ["It stops."]}).state is State.BROKEN


def test_a_clip_that_takes_for_ever(tmp_path: Path) -> None:
    told = found(media.clip(context(tmp_path, {"clip": NoAnswerError(Why.HUNG, "600 s")})))
    assert [one.state for one in told] == [State.BROKEN]
    assert list(tmp_path.iterdir()) == []


# ---- servers and surroundings --------------------------------------------------


def test_a_comfyui_server_that_answers_and_one_that_does_not(tmp_path: Path) -> None:
    standin = subprocess.Popen(
        [sys.executable, "-m", "core.engines.comfy.standin"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert standin.stdout is not None
        port = json.loads(standin.stdout.readline())["port"]
        rows = [
            {"base": f"http://127.0.0.1:{port}", "title": "Studio"},
            {"base": "http://127.0.0.1:9", "title": "Away"},
            {"base": "nonsense://x"},
        ]
        told = {one.id: one for one in servers.comfy(_with_servers(real(tmp_path), rows))}
    finally:
        assert standin.stdin is not None
        standin.stdin.close()
        standin.wait(10)
        if standin.stdout is not None:
            standin.stdout.close()
    assert told["comfy.server.0"].state is State.OK
    assert "version" in told["comfy.server.0"].text
    assert told["comfy.server.1"].state is State.NOTE
    assert told["comfy.entry.0"].state is State.WARNING


def _with_servers(told: Any, rows: list[dict[str, Any]]) -> Any:
    from dataclasses import replace

    return replace(told, settings=Settings(servers=rows))


def test_a_server_that_nobody_added_is_offered(tmp_path: Path) -> None:
    answers = {"comfy_folders": {"folders": []}, "comfy_server": {"answers": True, "state": "idle"}}
    (told,) = servers.comfy(context(tmp_path, answers))
    assert told.state is State.NOTE
    assert "Add it under Servers" in told.fix
    silent = {**answers, "comfy_server": NoAnswerError(Why.HUNG, "10 s")}
    (told,) = servers.comfy(context(tmp_path, silent))
    assert told.state is State.OK


def test_a_keyring_that_waits_for_a_person_is_a_note(tmp_path: Path) -> None:
    (told,) = surroundings.keyring(context(tmp_path, {"keyring": NoAnswerError(Why.HUNG, "8 s")}))
    assert told.state is State.NOTE
    (told,) = surroundings.keyring(real(tmp_path))
    assert told.state is State.NOTE  # The tests have none.


def test_a_clock_that_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = {"settings": {"changed_unix": time.time() + 5 * 86_400}}
    (told,) = surroundings.clock(context(tmp_path, later))
    assert told.state is State.WARNING
    assert "5 days" in told.text
    monkeypatch.setattr(surroundings.time, "time", lambda: 0.0)
    (told,) = surroundings.clock(context(tmp_path, later))
    assert "1970" in told.text


def test_libraries_that_the_system_lacks(tmp_path: Path) -> None:
    told = context(
        tmp_path, {}, absent_libraries=lambda: ("libEGL.so.1", "apt-get install libegl1")
    )
    (finding,) = surroundings.screen(told)
    assert finding.state is State.BROKEN
    assert "libegl1" in finding.fix


# ---- all of it -----------------------------------------------------------------


def test_a_look_that_breaks_hides_no_other(tmp_path: Path, caplog: Any) -> None:
    def breaks(_: Any) -> Any:
        raise ValueError("a secret stands here")

    def hangs(_: Any) -> Any:
        raise NoAnswerError(Why.HUNG, "9 s")

    def fine(_: Any) -> Any:
        yield Finding("fine", "Fine", State.OK, "It is.")

    checks = [Check("a", "A", breaks), Check("b", "B", hangs), Check("c", "C", fine)]
    told = found(examine(context(tmp_path, {}), checks))
    assert [one.state for one in told] == [State.BROKEN, State.WARNING, State.OK]
    assert "secret" not in told[0].text
    assert worst(told) is State.BROKEN
    assert [one.id for one in amiss(told)] == ["a", "b"]
    caplog.clear()


def test_stopping_between_and_within_looks(tmp_path: Path) -> None:
    stop: list[int] = []

    def one(_: Any) -> Any:
        stop.append(1)
        yield Finding("one", "One", State.OK, "")

    def within(_: Any) -> Any:
        raise StoppedError

    told = context(tmp_path, {}, stopped=lambda: bool(stop))
    assert len(found(examine(told, [Check("1", "1", one), Check("2", "2", one)]))) == 1
    stop.clear()
    assert found(examine(told, [Check("1", "1", within), Check("2", "2", one)])) == []


def test_a_quick_run_leaves_the_clip_out(tmp_path: Path) -> None:
    def tells(name: str) -> Any:
        return lambda _: iter([Finding(name, name, State.OK, "")])

    checks = [Check(one.id, one.title, tells(one.id), one.long) for one in CHECKS]
    quick = {one.id for one in found(examine(context(tmp_path, {}), checks, quick=True))}
    assert {one.id for one in CHECKS} - quick == {"clip", "engine.files"}


def test_reports_begin_with_the_worst(tmp_path: Path) -> None:
    told = [
        Finding("a", "A", State.OK, "Fine."),
        Finding("b", "B", State.BROKEN, "It lies in /home/ada/x.", "Mend it.", Repair("reinstall")),
        Finding("c", "C", State.NOTE, "Note."),
    ]
    assert [one.id for one in sorted_worst_first(told)] == ["b", "c", "a"]
    private = Scrubber(homes=["/home/ada"], users=["ada"], hosts=["loom"])
    text = as_text(told, private)
    assert text.index("Mend it.") < text.index("Note.") < text.index("Fine.")
    assert "ada" not in text
    document = as_json(told, private, quick=True)
    assert document["schema_version"] == 1
    assert document["worst"] == "broken"
    assert document["findings"][1]["repair"] == {"action": "reinstall", "tag": ""}
    assert json.loads(json.dumps(document)) == document


@given(
    st.from_regex(r"[a-z][a-z0-9]{2,9}", fullmatch=True),
    st.from_regex(r"[a-z][a-z0-9]{2,9}", fullmatch=True),
    st.ip_addresses().filter(lambda one: not (one.is_loopback or one.is_unspecified)),
    st.sampled_from(list(State)),
)
def test_nothing_private_stands_in_a_report(
    user: str, host: str, address: Any, state: State
) -> None:
    home = f"/home/{user}"
    told = Finding(
        "write.data",
        f"{host}.lan:8188",
        state,
        f"{home}/clips on {host} cannot be written to; http://x:pa55word@{address}/ and {address}.",
        f"Log in as {user}, token=hf_0123456789abcdef.",
    )
    private = Scrubber(homes=[home], users=[user], hosts=[f"{host}.lan"])
    document = as_json([told], private, quick=False)
    values = " ".join(str(document["findings"][0][name]) for name in ("title", "text", "fix"))
    plain = "".join(part for part in as_text([told], private).split("Framedeck doctor", 1))
    ours = "looked cannot written token things write clips home user address secret"
    for text in (values, plain):
        assert "pa55word" not in text
        assert "hf_0123456789abcdef" not in text
        assert str(address) not in text
        for name in (user, host):
            if name not in ours and name not in ("doctor", "warning", "broken", "note", "host"):
                assert not re.search(rf"(?<![^\W_]){name}(?![^\W_])", text)


def test_progress_of_the_clip_is_told(tmp_path: Path) -> None:
    looked = {"problem": "no"}
    first = next(iter(media.clip(context(tmp_path, {"clip": looked}))))
    assert first == Looking("Starter clip: half", 0.5)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("No module named 'regex'", "No module named 'regex'. Retry."),
        ("It ended.", "It ended. Retry."),
    ],
)
def test_what_went_wrong_with_the_clip_is_told_in_sentences(said: str, words: str) -> None:
    from core.doctor.starter_clip import sentences

    assert sentences(Problem(Category.STORAGE, said, "Retry.")) == words
