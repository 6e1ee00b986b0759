"""Whose process it is, told from real processes that look like the servers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from core.gpu import roles
from core.gpu.nvml import Nvml
from core.gpu.readings import Role
from core.gpu.roles import Owner, Roles, by_name
from core.gpu.sampler import Sampler
from tests.core.scripted_driver import GB, ScriptedDriver

LISTEN = """
import socket, sys
words = "=".join(sys.argv[1:]).split("=")
port = int(words[words.index("--port") + 1]) if "--port" in words else 0
server = socket.create_server(("127.0.0.1", port))
print("up", flush=True)
sys.stdin.read()
"""
QUIET = "import sys; print('up', flush=True); sys.stdin.read()"


@contextmanager
def started(*words: str | Path, **options: Any) -> Iterator[psutil.Process]:
    """A process that has said its first word, and ends with the block."""
    child = subprocess.Popen(
        [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
    )
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        assert child.stdout.readline()
        yield psutil.Process(child.pid)
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def comfyui(folder: Path, marked: bool = True, code: str = LISTEN) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text(code)
    if marked:
        (folder / "folder_paths.py").write_text("")
    return folder


def called(folder: Path, name: str) -> Path:
    """A program of this name that is Python underneath."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.symlink_to(sys.executable)
    return path


def owner(pid: int) -> Owner:
    return Roles().owners([pid])[pid]


def test_comfyui_is_known_by_the_port_that_it_listens_on(tmp_path: Path) -> None:
    port = free_port()
    folder = comfyui(tmp_path / "any name")
    with started(sys.executable, "main.py", "--port", str(port), cwd=folder) as process:
        assert owner(process.pid) == Owner(f"ComfyUI :{port}", Role.COMFYUI, port)


def test_two_instances_are_told_apart(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    words = ["--port", str(ports[0])], [f"--port={ports[1]}"]
    with ExitStack() as stack:
        processes = []
        for port, told in zip(ports, words, strict=True):
            # By the folder's name alone; whether the file beside it stands there or not.
            folder = comfyui(tmp_path / str(port) / "ComfyUI", marked=False)
            command = started(sys.executable, folder / "main.py", *told)
            processes.append(stack.enter_context(command))
        found = Roles().owners(process.pid for process in processes)
    expected = [Owner(f"ComfyUI :{port}", Role.COMFYUI, port) for port in ports]
    assert [found[process.pid] for process in processes] == expected


def test_a_port_that_is_not_told_is_read_from_the_socket(tmp_path: Path) -> None:
    folder = comfyui(tmp_path / "ComfyUI")
    with started(sys.executable, folder / "main.py", "--listen") as process:
        listening = [c.laddr.port for c in process.net_connections() if c.status == "LISTEN"]
        assert owner(process.pid) == Owner(f"ComfyUI :{listening[0]}", Role.COMFYUI, listening[0])


def test_a_server_that_does_not_listen_yet_is_looked_at_again(tmp_path: Path) -> None:
    code = (
        "import socket, sys\nprint('up', flush=True)\nsys.stdin.readline()\n"
        "server = socket.create_server(('127.0.0.1', 0))\nprint('on', flush=True)\n"
        "sys.stdin.read()\n"
    )
    folder = comfyui(tmp_path / "ComfyUI", code=code)
    child = subprocess.Popen(
        [sys.executable, str(folder / "main.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        known = Roles()
        assert known.owners([child.pid])[child.pid] == Owner("ComfyUI", Role.COMFYUI)
        child.stdin.write("\n")
        child.stdin.flush()
        child.stdout.readline()
        found = known.owners([child.pid])[child.pid]
        assert found.port is not None
        assert found.name == f"ComfyUI :{found.port}"


def test_python_that_runs_something_else_is_no_comfyui(tmp_path: Path) -> None:
    folder = comfyui(tmp_path / "project", marked=False, code=QUIET)
    with started(sys.executable, folder / "main.py") as process:
        assert owner(process.pid) == Owner(process.name(), Role.OTHER)
    with started(sys.executable, "-c", QUIET, "ComfyUI", cwd=comfyui(tmp_path / "x")) as process:
        assert owner(process.pid).role is Role.OTHER


@pytest.mark.skipif(os.name == "nt", reason="links to Python by another name")
def test_ollama_and_its_runner_have_the_port_of_the_server(tmp_path: Path) -> None:
    serve = called(tmp_path, "ollama")
    code = (
        "import socket, subprocess, sys\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "helper = socket.create_server(('127.0.0.1', 0))\n"
        f"p = subprocess.Popen([{str(serve)!r}, '-c', 'import sys; sys.stdin.read()',"
        " 'runner', '--port', str(helper.getsockname()[1])],"
        " stdin=subprocess.PIPE, pass_fds=[helper.fileno()])\n"
        "helper.close()\n"
        "print(p.pid, flush=True)\nsys.stdin.read()\np.stdin.close()\np.wait()\n"
    )
    child = subprocess.Popen(
        [str(serve), "-c", code, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        runner = int(child.stdout.readline())
        deadline = time.monotonic() + 5  # Between fork and exec it has its parent's name.
        while "ollama" not in psutil.Process(runner).name() and time.monotonic() < deadline:
            time.sleep(0.01)
        (port,) = {c.laddr.port for c in psutil.Process(child.pid).net_connections()}
        found = Roles().owners([child.pid, runner])
    assert found == dict.fromkeys((child.pid, runner), Owner("Ollama", Role.LLM, port))


@pytest.mark.skipif(os.name == "nt", reason="links to Python by another name")
def test_lm_studio_by_its_name(tmp_path: Path) -> None:
    for path in (tmp_path / "LM Studio", tmp_path / "lm-studio"):
        with started(called(tmp_path, path.name), "-c", QUIET) as process:
            assert owner(process.pid) == Owner("LM Studio", Role.LLM)


@pytest.mark.parametrize(
    ("name", "exe", "words", "expected"),
    [
        ("Xorg", "/usr/lib/xorg/Xorg", [], Owner("Xorg", Role.DESKTOP)),
        ("gnome-shell", "/usr/bin/gnome-shell", [], Owner("gnome-shell", Role.DESKTOP)),
        ("kwin_wayland", "", [], Owner("kwin_wayland", Role.DESKTOP)),
        ("dwm.exe", r"C:\Windows\System32\dwm.exe", [], Owner("dwm.exe", Role.DESKTOP)),
        ("explorer.exe", "", [], Owner("explorer.exe", Role.DESKTOP)),
        ("chrome", "", [], Owner("Chrome", Role.OTHER)),
        ("firefox.exe", "", [], Owner("Firefox", Role.OTHER)),
        ("LM Studio.exe", "", [], Owner("LM Studio", Role.LLM)),
        ("node.exe", r"C:\Users\a\.lmstudio\utils\node.exe", [], Owner("LM Studio", Role.LLM)),
        ("node", "/opt/LM-Studio/resources/node", [], Owner("LM Studio", Role.LLM)),
        ("node", "/usr/bin/node", ["node", "lmstudio.js"], Owner("node", Role.OTHER)),
        ("ollama.exe", "", ["ollama.exe", "runner"], Owner("Ollama", Role.LLM)),
        ("ollama_llama_server", "", [], Owner("Ollama", Role.LLM)),
        ("llama-server", "", [], Owner("llama.cpp server", Role.LLM)),
        (
            "python.exe",
            "",
            ["python_embeded\\python.exe", "-s", "ComfyUI\\main.py", "--port", "8190"],
            Owner("ComfyUI :8190", Role.COMFYUI, 8190),
        ),
        (
            "python",
            "",
            ["python", "/home/b/ComfyUI/main.py", "--port", "many"],
            Owner("ComfyUI", Role.COMFYUI),
        ),
        ("python", "", [], Owner("python", Role.OTHER)),
        ("", "", [], Owner("process 77", Role.OTHER)),
    ],
)
def test_programs_of_other_systems_and_users(
    monkeypatch: pytest.MonkeyPatch, name: str, exe: str, words: list[str], expected: Owner
) -> None:
    """Sockets and folders of other users are not to be had."""

    def denied(**_: Any) -> Any:
        raise psutil.AccessDenied(77)

    process = SimpleNamespace(
        pid=77, name=lambda: name, exe=lambda: exe, cmdline=lambda: words, cwd=denied,
        net_connections=denied, parents=list, create_time=lambda: 1.0,
    )  # fmt: skip
    known = Roles()
    monkeypatch.setattr(roles.psutil, "Process", lambda pid: process)
    assert known.owners([77])[77] == expected


def test_a_number_that_is_used_again_is_another_process() -> None:
    known = Roles()
    with started(sys.executable, "-c", QUIET) as process:
        known.owners([process.pid])
        assert known._known[process.pid].created == process.create_time()
        known._known[process.pid] = roles._Known(1.0, Owner("long gone", Role.LLM))
        assert known.owners([process.pid])[process.pid].name == process.name()
    assert known.owners([process.pid])[process.pid] == Owner(f"process {process.pid}", Role.OTHER)
    known.owners([])
    assert known._known == {}


def test_processes_that_come_and_go_within_a_sample_do_not_matter() -> None:
    driver = ScriptedDriver()
    sampler = Sampler(nvml=Nvml(lambda: driver), worker_pid=lambda: gone.pid)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    for _ in range(20):
        child = subprocess.Popen([sys.executable, "-c", ""])
        driver.compute = [(child.pid, GB), (gone.pid, GB)]
        child.kill()  # Dies some time while it is looked at; then nobody has waited for it.
        sampler._due["processes"] = float("-inf")
        reading = sampler.read()
        assert {item.pid for item in reading.devices[0].processes or ()} == {child.pid, gone.pid}
        child.wait()
    gone.wait()


def test_names_of_traces() -> None:
    assert by_name("ComfyUI") == Owner("ComfyUI", Role.COMFYUI)
    assert by_name("ComfyUI :8188") == Owner("ComfyUI :8188", Role.COMFYUI, 8188)
    assert by_name("ComfyUI helper") == Owner("ComfyUI helper", Role.OTHER)
    assert by_name("Desktop").role is Role.DESKTOP


def test_what_is_known_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Roles()
    known.owners([os.getppid()])
    monkeypatch.setattr(roles, "_find", lambda process: pytest.fail("asked again"))
    assert known.owners([os.getppid()])[os.getppid()].role is Role.OTHER
