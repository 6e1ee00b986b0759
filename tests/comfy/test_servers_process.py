"""Local servers as real processes: started, killed, found again, ended as a whole."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.engines.comfy import install, trees
from core.engines.comfy.backoff import Backoff
from core.engines.comfy.health import Doctor, State
from core.engines.comfy.process import ServerProcess, stop_other
from core.engines.comfy.server_log import (
    LARGEST_BYTES,
    LogFile,
    Trouble,
    lines_of,
    trouble_of,
    why_it_ended,
)
from core.errors import Category, ProblemError
from tests.comfy.fake_install import ROOT, FakeInstall, installed, wait

posix = pytest.mark.skipif(sys.platform == "win32", reason="sends signals of POSIX")


def up(fake: FakeInstall) -> None:
    doctor = Doctor(fake.server.base)
    wait(lambda: doctor.look().state is State.IDLE)


def test_a_server_is_started_in_its_folder_and_ended(tmp_path: Path) -> None:
    with installed(tmp_path) as (fake, process):
        pid = process.start(fake.known(arguments=("--lowvram",)))
        assert process.pid == pid
        up(fake)
        seen = fake.seen()
        assert seen["cwd"] == str(fake.folder)
        port = str(fake.server.port)
        assert seen["argv"] == [
            "main.py", "--lowvram", "--port", port, "--listen", "127.0.0.1",
        ]  # fmt: skip
        assert str(ROOT) not in seen["path"]
        texts = [line.text for line in process.log.read()]
        assert texts[0].startswith("--- ")
        assert "Framedeck starts" in texts[0]
        assert any("To see the GUI" in text for text in texts)
        assert process.log.read() == []
        began = time.monotonic()
        process.stop()
        assert time.monotonic() - began < 4
        assert process.pid is None
        assert process.ended() == ""
        assert fake.alive() == []


def test_nothing_of_framedeck_reaches_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaks = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "QT_QPA_PLATFORM",
             "QT_PLUGIN_PATH", "FRAMEDECK_HOME", "FRAMEDECK_NO_SETUP", "HF_HUB_OFFLINE",
             "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "QML2_IMPORT_PATH")  # fmt: skip
    for name in leaks:
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("VIRTUAL_ENV", "/some/venv")
    monkeypatch.setenv("PATH", f"/some/venv/bin:{sys.prefix}/bin:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "example.org")
    # What the test's own Python needs to run is not under test here.
    with installed(tmp_path) as (fake, process):
        process.start(fake.server, {**os.environ, "PYTHONHOME": "/nowhere"})
        wait(lambda: (fake.folder / "starts").exists())
        env = fake.seen()["env"]
        assert [name for name in leaks if name in env] == []
        assert env["PATH"] == "/usr/bin:/bin"
        assert env["CUDA_VISIBLE_DEVICES"] == "1"
        assert env["HF_HOME"] == "/models"
        assert env["http_proxy"] == "http://proxy:3128"
        assert env["no_proxy"] == env["NO_PROXY"] == "example.org,127.0.0.1,localhost,::1"


@posix
def test_all_that_it_started_ends_with_it(tmp_path: Path) -> None:
    with installed(tmp_path) as (fake, process):
        fake.plan(children=True)
        process.start(fake.server)
        up(fake)
        # The server, a child, and one whose parent has ended; both ignore SIGTERM.
        wait(lambda: len(fake.alive()) == 3)
        process.stop(0.3)
        assert fake.alive() == []


@posix
def test_one_that_hears_no_signal_is_killed_in_time(tmp_path: Path) -> None:
    with installed(tmp_path) as (fake, process):
        fake.plan(deaf=True)
        process.start(fake.server)
        wait(lambda: "deaf" in process.log.tail())
        began = time.monotonic()
        process.stop(1.0)
        assert 1.0 <= time.monotonic() - began < 4.5
        assert fake.alive() == []


@posix
def test_a_kill_is_seen_and_what_was_left_is_ended(tmp_path: Path) -> None:
    with installed(tmp_path) as (fake, process):
        fake.plan(children=True)
        pid = process.start(fake.server)
        wait(lambda: len(fake.alive()) == 3)
        assert process.ended() == ""
        os.kill(pid, signal.SIGKILL)
        assert wait(process.ended) == "was killed by signal 9 (SIGKILL)"
        assert fake.alive() == []
        assert process.ended() == ""
        assert not process.was_started


def test_a_taken_port_is_told_with_who_has_it(tmp_path: Path) -> None:
    with installed(tmp_path) as (fake, process):
        with socket.create_server(("127.0.0.1", fake.server.port)):
            with pytest.raises(ProblemError) as told:
                process.start(fake.server)
            assert f"process {os.getpid()}" in told.value.problem.message
            assert str(fake.server.port) in told.value.problem.message
        assert fake.starts == 0
        process.start(fake.server)
        up(fake)
        other = ServerProcess(fake.server.base, tmp_path / "other", tmp_path / "other")
        with pytest.raises(ProblemError, match=r"taken by ComfyUI \(process"):
            other.start(fake.server)
        with pytest.raises(ProblemError, match="runs already"):
            process.start(fake.server)


def test_a_server_outlives_framedeck_and_is_found_again(tmp_path: Path) -> None:
    with installed(tmp_path) as (fake, process):
        pid = process.start(fake.server)
        up(fake)
        process.let_go()
        assert process.pid is None
        again = ServerProcess(fake.server.base, tmp_path / "state", tmp_path / "logs")
        assert again.adopt()
        assert again.pid == pid
        assert any("To see the GUI" in line.text for line in again.log.read())
        again.stop()
        assert fake.alive() == []
        assert not ServerProcess(fake.server.base, tmp_path / "state", tmp_path / "logs").adopt()


@posix
def test_a_server_is_found_again_after_framedeck_was_killed(tmp_path: Path) -> None:
    with installed(tmp_path) as (fake, _):
        code = (
            "import sys; from pathlib import Path; from core.engines.comfy.known import KnownServer"
            "; from core.engines.comfy.process import ServerProcess; base, folder, top = "
            "sys.argv[1:]; top = Path(top); p = ServerProcess(base, top / 'state', top / 'logs'); "
            "print(p.start(KnownServer(base, folder=folder)), flush=True); sys.stdin.read()"
        )
        words = [sys.executable, "-c", code, fake.server.base, str(fake.folder), str(tmp_path)]
        framedeck = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with framedeck:
            assert framedeck.stdout is not None
            pid = int(framedeck.stdout.readline())
            up(fake)
            framedeck.kill()
        again = ServerProcess(fake.server.base, tmp_path / "state", tmp_path / "logs")
        assert again.adopt()
        assert again.pid == pid
        os.kill(pid, signal.SIGKILL)
        assert wait(again.ended) == "ended"
        assert fake.alive() == []


def test_a_process_of_the_same_number_is_not_taken_for_it(tmp_path: Path) -> None:
    with installed(tmp_path) as (fake, process):
        process.start(fake.server)
        process.let_go()
        (record,) = (tmp_path / "state").glob("*.json")
        text = record.read_text()
        pid = int(text.partition('"pid": ')[2].partition(",")[0])
        record.write_text(text.replace(f'"pid": {pid}', f'"pid": {os.getpid()}'))
        again = ServerProcess(fake.server.base, tmp_path / "state", tmp_path / "logs")
        assert not again.adopt()
        again.stop()
        assert not record.exists()


def test_a_server_of_a_terminal_is_found_and_can_be_ended(tmp_path: Path) -> None:
    with installed(tmp_path) as (fake, _):
        words = [sys.executable, str(fake.folder / "main.py"), "--port", str(fake.server.port)]
        with subprocess.Popen([*words, "--lowvram"], stdout=subprocess.DEVNULL) as terminal:
            up(fake)
            (found,) = [one for one in trees.running() if one.port == fake.server.port]
            assert (found.pid, found.folder) == (terminal.pid, str(fake.folder))
            assert found.arguments == ("--lowvram",)
            elsewhere = fake.known(folder=str(tmp_path))
            with pytest.raises(ProblemError, match="does not find its process"):
                stop_other(elsewhere)
            assert terminal.poll() is None
            stop_other(fake.server)
            assert terminal.wait(5) == -signal.SIGTERM


def test_what_cannot_be_started_is_told_with_its_field(tmp_path: Path) -> None:
    with installed(tmp_path) as (fake, process):
        cases = (
            ({"folder": ""}, "folder", "does not know where"),
            ({"folder": str(tmp_path)}, "folder", "does not hold ComfyUI"),
            ({"python": str(tmp_path / "no")}, "python", "no program"),
            ({"python": str(fake.folder / "folder_paths.py")}, "python", "no program"),
        )
        for changed, field, words in cases:
            with pytest.raises(ProblemError, match=words) as told:
                process.start(fake.known(**changed))
            assert told.value.problem.field == field
        assert f"Choose {fake.folder}" in _hint(process, fake.known(folder=str(tmp_path)))
        (fake.folder / "venv" / "bin" / "python").write_text("#!/nowhere/python\n")
        with pytest.raises(ProblemError, match="cannot be started"):
            process.start(fake.server)
        (fake.folder / "venv" / "bin" / "python").unlink()
        with pytest.raises(ProblemError, match="No Python"):
            process.start(fake.server)


def _hint(process: ServerProcess, server: object) -> str:
    with pytest.raises(ProblemError) as told:
        process.start(server)  # type: ignore[arg-type]
    return told.value.problem.hint


def test_installs_are_found_in_the_usual_places(tmp_path: Path) -> None:
    assert install.installs(tmp_path, ()) == []
    fake = FakeInstall(tmp_path / "ComfyUI")
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "ComfyUI").symlink_to(fake.folder)
    (tmp_path / "Documents" / "ComfyUI").mkdir(parents=True)
    assert install.installs(tmp_path, ()) == [fake.folder]
    assert install.python_of(fake.folder) == fake.folder / "venv" / "bin" / "python"
    portable = tmp_path / "portable" / "ComfyUI"
    portable.mkdir(parents=True)
    embedded = portable.parent / "python_embeded" / "python.exe"
    embedded.parent.mkdir()
    embedded.touch()
    assert install.python_of(portable) == embedded
    words = install.command(fake.server, install.Install(portable, embedded, embedded=True))
    assert words[:3] == [str(embedded), "-s", "main.py"]


def test_waits_grow_and_end() -> None:
    backoff = Backoff()
    assert [backoff.crashed(at) for at in range(6)] == [1, 2, 5, 15, 60, None]
    backoff.forget()
    assert backoff.crashed(10.0) == 1
    assert backoff.crashed(700.0) == 1  # Ten minutes later it counts as the first again.


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", Trouble.MEMORY),
        ("RuntimeError: [enforce fail] Cannot allocate memory", Trouble.MEMORY),
        ("   0.1 seconds (IMPORT FAILED): /x/custom_nodes/pack", Trouble.IMPORT),
        ("ModuleNotFoundError: No module named 'torch'", Trouble.IMPORT),
        ("invalid prompt: {'type': 'missing_node_type'}", Trouble.NODE),
        ("Cannot execute because node VHS_VideoCombine does not exist.", Trouble.NODE),
        ("OSError: [Errno 98] error while attempting to bind on address", Trouble.PORT),
        ("main.py: error: unrecognized arguments: --lowvarm", Trouble.ARGUMENT),
        ("Traceback (most recent call last):", Trouble.ERROR),
        ("!!! Exception during processing !!! no", Trouble.ERROR),
        ("UserWarning: deprecated", Trouble.WARNING),
        ("Prompt executed in 12.31 seconds", None),
        ("Import times for custom nodes:", None),
        ("checked: 0 errors", None),
        ("got prompt", None),
    ],
)
def test_troubles_are_pointed_out(line: str, trouble: Trouble | None) -> None:
    assert trouble_of(line) is trouble


def test_a_log_is_read_as_it_grows_and_bars_once(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    assert log.read() == []
    with log.open() as file:
        file.write(b"one\n\x1b[31mred\x1b[0m\nhal")
        file.flush()
        assert [line.text for line in log.read()] == ["one", "red"]
        file.write(b"f\n 10%|#\r 50%|##\r100%|###\n\xff\xfe\n")
        file.flush()
        assert [line.text for line in log.read()] == ["half", "100%|###", "\ufffd\ufffd"]
    assert log.read() == []
    log.rewind()
    assert len(log.read()) == 5


def test_a_log_that_grows_too_large_is_cut_while_it_is_written(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    with log.open() as file:
        line = b"x" * 99 + b"\n"
        file.write(line * (LARGEST_BYTES // 100 + 10))
        file.flush()
        assert log.read()
        assert log.size() == 0
        file.write(b"goes on\n")
        file.flush()
    assert [line.text for line in log.read()] == ["goes on"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < LARGEST_BYTES


def test_logs_are_turned_over_at_the_start(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    for number in range(5):
        with log.open() as file:
            file.write(str(number).encode() * LARGEST_BYTES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]


def test_why_it_ended_is_told_from_its_log(tmp_path: Path) -> None:
    with installed(tmp_path) as (fake, process):
        fake.plan(says=["ModuleNotFoundError: No module named 'torch'"], code=1)
        process.start(fake.server)
        how = wait(process.ended)
        assert how == "ended with code 1"
        problem = why_it_ended("ComfyUI", how, process.log.read())
        assert "No module named 'torch'" in problem.message
        assert "another Python" in problem.hint
    oom = why_it_ended("A", "was killed", lines_of(["CUDA out of memory"]))
    assert oom.category is Category.INSUFFICIENT_VRAM
    wrong = why_it_ended("A", "x", lines_of(["main.py: error: unrecognized arguments: --x"]))
    assert "arguments" in wrong.hint
    assert why_it_ended("A", "ended", []).message == "A ended."
