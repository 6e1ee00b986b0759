"""The set-up, run for real: tiny wheels built here, real venvs, real kills, no network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from app import bootstrap, environment, faster

ROOT = Path(__file__).resolve().parents[2]
BASE_PYTHON = sys._base_executable
pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="drives POSIX signals and exec; Windows has its own way on"
)

PARTS = ("__init__", "__main__", "bootstrap", "environment", "faster", "system_check")
PROJECT = """
[project]
name = "probe"
version = "1"
dependencies = ["fd-probe>={probe}", "fd-absent; python_version < '3'"]
[project.optional-dependencies]
torch = ["torch>=1.5,<2"]
engine = ["fd-engine"]
test = ["fd-test"]
"""
MAIN = """
import importlib.metadata as m, json, sys
def main(argv):
    found = {d.metadata["Name"]: d.version for d in m.distributions()}
    print(json.dumps({"argv": argv, "prefix": sys.prefix, "found": found}))
    return 3
"""


def build_wheel(
    folder: Path, name: str, version: str, needs: tuple[str, ...] = (), files: int = 1
) -> None:
    """Write a wheel that installs `files` modules, its dist-info last as wheels do."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content = {f"{module}/part_{index}.py": f"NUMBER = {index}\n" for index in range(files)}
    content[f"{module}/__init__.py"] = ""
    content[f"{info}/METADATA"] = metadata + "".join(f"Requires-Dist: {n}\n" for n in needs)
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{path},,{len(text)}\n" for path, text in content.items())
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as file:
        for path, text in content.items():
            file.writestr(path, text)


class Checkout:
    """A checkout with the real set-up and tiny requirements. Its path has a space.

    Of `files` modules a package is made: many take long enough for a kill to meet them.
    """

    def __init__(self, folder: Path, files: int = 20) -> None:
        self.root, self.wheels = folder / "a checkout", folder / "wheels"
        self.venv = self.root / ".venv"
        (self.root / "app").mkdir(parents=True)
        self.wheels.mkdir()
        for name in PARTS:
            shutil.copy(ROOT / "app" / f"{name}.py", self.root / "app")
        (self.root / "app" / "main.py").write_text(MAIN)
        self.require("1")
        build_wheel(self.wheels, "torch", "1.9")
        build_wheel(self.wheels, "torch", "1.9+cpu", needs=("fd-deep",))
        build_wheel(self.wheels, "torch", "2.1")
        build_wheel(self.wheels, "fd-deep", "1")
        build_wheel(self.wheels, "fd-probe", "1", files=files)
        build_wheel(self.wheels, "fd-engine", "1", needs=("torch",))
        build_wheel(self.wheels, "fd-test", "1")

    def require(self, probe: str) -> None:
        (self.root / "pyproject.toml").write_text(PROJECT.format(probe=probe))

    def environment(self, **more: str) -> dict[str, str]:
        unwanted = ("PIP_", "FRAMEDECK_", "DISPLAY", "WAYLAND", "VIRTUAL_ENV", "PYTHON")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
        own = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels.as_uri()}
        return {**kept, **own, "PIP_CONFIG_FILE": os.devnull, **more}

    def begin(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        command = [BASE_PYTHON, *(arguments or ("-m", "app", "hello there"))]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        process = self.begin(*arguments, **more)
        try:
            out, err = process.communicate(timeout=90)
        finally:
            kill_session(process)
        return process.returncode, out, err


def kill_session(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait_for_line(process: subprocess.Popen[str], start: str) -> None:
    for line in process.stderr:
        if line.startswith(start):
            return
    raise AssertionError(f"ended without {start!r}")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, str, str]:
    """A checkout set up once for the tests that need no fresh one."""
    checkout = Checkout(tmp_path_factory.mktemp("ready"))
    code, out, err = checkout.run()
    assert code == 3, err
    return checkout, out, err


def test_first_start_sets_up_and_goes_on_inside(ready: tuple[Checkout, str, str]) -> None:
    checkout, out, err = ready
    told = json.loads(out)  # nothing but the command's own words on stdout
    assert told["argv"] == ["hello there"]
    assert Path(told["prefix"]) == checkout.venv
    assert told["found"]["torch"] == "1.9+cpu"  # in range, and the local build before the plain
    assert {"fd-probe", "fd-engine", "fd-deep"} <= set(told["found"])
    assert "fd-test" not in told["found"]
    assert [line for line in err.splitlines() if line.startswith("[")] == [
        "[1/4] Checking the system",
        "[2/4] Making the environment",
        f"[3/4] Installing torch ({environment.torch_tag(environment.driver_version())})",
        "[4/4] Installing the other packages",
    ]
    assert "Set up in" in err


def test_later_starts_are_silent_and_quick(ready: tuple[Checkout, str, str]) -> None:
    checkout, _, _ = ready
    inside = str(environment.interpreter(checkout.venv))

    def seconds(python: str, **more: str) -> float:
        """Processor time: what the start takes when nobody else uses the machine."""
        import resource  # POSIX only, like this module's tests

        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command, settings = [python, "-m", "app"], checkout.environment(**more)
        subprocess.run(command, cwd=checkout.root, env=settings, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    code, _, err = checkout.run()
    assert (code, err) == (3, "")
    pairs = [(seconds(inside, FRAMEDECK_NO_SETUP="1"), seconds(BASE_PYTHON)) for _ in range(7)]
    plain, ours = (min(column) for column in zip(*pairs, strict=True))
    print(f"second start adds {(ours - plain) * 1000:.0f} ms ({ours / plain:.2f} x)")
    assert ours - plain < 0.15


def test_an_environment_that_has_it_all_is_used_as_it_is(ready: tuple[Checkout, str, str]) -> None:
    checkout, _, _ = ready
    inside = str(environment.interpreter(checkout.venv))
    elsewhere = str(checkout.root.parent / "never")
    done = subprocess.run(
        [inside, "-m", "app"],
        cwd=checkout.root,
        capture_output=True,
        text=True,
        check=False,
        env=checkout.environment(FRAMEDECK_VENV=elsewhere),
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert Path(json.loads(done.stdout)["prefix"]) == checkout.venv
    assert not Path(elsewhere).exists()


def test_no_setup_variable_is_obeyed(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    code, out, err = checkout.run(FRAMEDECK_NO_SETUP="1")
    assert (code, err) == (3, "")
    assert json.loads(out)["prefix"] == sys.base_prefix
    assert not checkout.venv.exists()


def test_requirements_decide_whether_to_set_up_again(ready: tuple[Checkout, str, str]) -> None:
    checkout, _, _ = ready
    torch = next(checkout.venv.glob("lib/python3*/site-packages/torch/__init__.py"))
    before = torch.stat().st_ino
    project = checkout.root / "pyproject.toml"
    project.write_text(project.read_text() + "\n[tool.ruff]\nline-length = 99\n")
    assert checkout.run()[2] == ""  # no requirement changed

    build_wheel(checkout.wheels, "fd-probe", "2")
    checkout.require("2")
    code, out, err = checkout.run()
    assert code == 3, err
    assert json.loads(out)["found"]["fd-probe"] == "2"
    assert "torch is there and in range: left alone" in err
    assert torch.stat().st_ino == before

    code, _, err = checkout.run("-c", "from app import bootstrap; bootstrap.ensure('tests')")
    assert code == 0, err
    assert "Installing the other packages" in err
    code, out, err = checkout.run()  # what suffices for the tests suffices for the app
    assert (code, err) == (3, "")
    assert json.loads(out)["found"]["fd-test"] == "1"


def test_a_screen_that_was_not_there_before_is_checked(ready: tuple[Checkout, str, str]) -> None:
    checkout, _, _ = ready
    stamp = bootstrap.read_stamp(checkout.venv)
    bootstrap.Stamp(stamp.python, stamp.groups, ["qt"], stamp.project).write(checkout.venv)
    code, _, err = checkout.run(DISPLAY=":77")
    assert code == 3, err
    assert "[1/4] Checking the system" in err
    assert "[2/4]" not in err
    assert checkout.run(DISPLAY=":77")[2] == ""


def test_a_package_that_cannot_be_had_is_told(ready: tuple[Checkout, str, str]) -> None:
    checkout, _, _ = ready
    checkout.require("9")
    code, out, err = checkout.run()
    assert (code, out) == (1, "")
    assert "run the same command again" in err
    checkout.require("1")
    assert checkout.run()[0] == 3


def test_damage_is_found_and_repaired(ready: tuple[Checkout, str, str]) -> None:
    checkout, _, _ = ready
    packages = next(checkout.venv.glob("lib/python3*/site-packages"))
    (packages / "fd_engine" / "part_0.py").write_text("")  # cut short
    (packages / "fd_deep-1.dist-info" / "INSTALLER").unlink()  # pip died before the end
    shutil.rmtree(packages / "pip")
    (packages / "~robe").mkdir()
    (checkout.venv / bootstrap.STAMP).write_bytes(bootstrap.UNFINISHED)
    code, _, err = checkout.run()
    assert code == 3, err
    assert "fd_engine-1 is incomplete" in err
    assert "fd_deep-1 is incomplete" in err
    assert (packages / "fd_engine" / "part_0.py").read_text() == "NUMBER = 0\n"
    assert not (packages / "~robe").exists()
    assert not list(environment.broken_distributions(packages))


def test_two_starts_share_one_set_up(ready: tuple[Checkout, str, str]) -> None:
    checkout, _, _ = ready
    environment.interpreter(checkout.venv).unlink()  # ready by its stamp, but nothing runs in it
    both = [checkout.begin(), checkout.begin()]
    said = [process.communicate(timeout=90) for process in both]
    assert [process.returncode for process in both] == [3, 3], said
    assert sorted("starting it over" in err for _, err in said) == [False, True]
    assert sorted("[4/4]" in err for _, err in said) == [False, True]
    assert sum("waiting for it" in err for _, err in said) == 1
    assert checkout.run()[2] == ""


def test_another_python_underneath_means_a_new_environment(
    ready: tuple[Checkout, str, str],
) -> None:
    checkout, _, _ = ready
    stamp = bootstrap.read_stamp(checkout.venv)
    bootstrap.Stamp("3.2", stamp.groups, stamp.system, stamp.project).write(checkout.venv)
    configuration = checkout.venv / "pyvenv.cfg"
    version = ".".join(map(str, sys.version_info[:3]))
    assert version in configuration.read_text()
    configuration.write_text(configuration.read_text().replace(version, "3.2.1"))
    code, _, err = checkout.run()
    assert code == 3, err
    assert "starting it over" in err
    assert checkout.run()[2] == ""


def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, files=1500)
    for line, seconds in [("[1", 0), ("[2", 0.2), ("[2", 1.0), ("[3", 0.4), ("[4", 0.5)]:
        process = checkout.begin()
        wait_for_line(process, line)
        time.sleep(seconds)
        kill_session(process)
        process.communicate(timeout=10)
        assert process.returncode == -signal.SIGKILL, f"{line} + {seconds} s came too late"
        stamp = bootstrap.read_stamp(checkout.venv)
        assert stamp is None, f"ready although killed at {line}"

    # Now only the set-up itself dies: its pip works on, and the next start waits for it.
    process = checkout.begin()
    wait_for_line(process, "[4")
    wait_for_line(process, "Looking in links")
    os.kill(process.pid, signal.SIGKILL)
    code, out, err = checkout.run()
    kill_session(process)
    process.communicate(timeout=10)
    assert code == 3, err
    assert "waiting for it" in err
    assert json.loads(out)["found"]["fd-probe"] == "1"
    packages = next(checkout.venv.glob("lib/python3*/site-packages"))
    assert len(list((packages / "fd_probe").glob("part_*.py"))) == 1500
    assert not list(environment.broken_distributions(packages))


def lend_uv(checkout: Checkout) -> None:
    """Let the checkout's sources have a uv, which hands over to the one of these tests."""
    name = "uv-0.9.0-py3-none-any.whl"
    build_wheel(checkout.wheels, "uv", "0.9.0")
    with zipfile.ZipFile(checkout.wheels / name, "a") as file:
        real = [sys.executable, "-m", "uv"]
        file.writestr("uv/__main__.py", f"import os, sys; os.execv({sys.executable!r}, "
                      f"[*{real!r}, *sys.argv[1:]])")  # fmt: skip


def test_where_uv_can_be_had_it_installs_and_a_kill_within_it_is_mended(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, files=1500)
    lend_uv(checkout)
    process = checkout.begin()
    wait_for_line(process, "[4")
    cache, until = checkout.venv / faster.CACHE, time.monotonic() + 30
    while not cache.exists():
        assert time.monotonic() < until
        time.sleep(0.001)
    kill_session(process)
    process.communicate(timeout=10)
    assert bootstrap.read_stamp(checkout.venv) is None
    code, out, err = checkout.run()
    assert code == 3, err
    assert json.loads(out)["found"]["fd-probe"] == "1"
    packages = next(checkout.venv.glob("lib/python3*/site-packages"))
    assert (packages / "fd_probe-1.dist-info" / "INSTALLER").read_text() == "uv"
    assert len(list((packages / "fd_probe").glob("part_*.py"))) == 1500
    assert not list(environment.broken_distributions(packages))
    assert not cache.exists(), "it takes no room afterwards"

    # What uv left half-done is found like what pip left, and what it cannot do pip tries.
    (packages / "fd_probe" / "part_7.py").unlink()
    checkout.require("9")
    code, _, err = checkout.run()
    assert code == 1
    assert "fd_probe-1 is incomplete" in err
    assert "pip's last lines above say why" in err
    checkout.require("1")
    code, _, err = checkout.run()
    assert code == 3, err
    assert (packages / "fd_probe" / "part_7.py").exists()


def test_uv_is_told_what_pip_is_set_to() -> None:
    best = ["--index-strategy", "unsafe-best-match"]
    assert faster.sources("") == (best, {})
    told = faster.sources(
        "global.index-url='https://one.example/simple'\n"
        "global.extra-index-url='file:///a/simple file:///b/simple'\n"
        "install.find-links='/opt/wheels\\n/srv/w'\n"
        "freeze.timeout='9'\n"
        ":env:.cert='/etc/ca.crt'\n:env:.index-url='https://u:p@two.example/simple'\n"
        ":env:.no-index='true'\n:env:.trusted-host='a.example b.example'\n"
        ":env:.proxy='http://proxy:3128'\n:env:.disable-pip-version-check='1'\n"
    )
    assert told is not None
    hosts = ["--allow-insecure-host", "a.example", "--allow-insecure-host", "b.example"]
    assert sorted(told[0]) == sorted([*best, "--no-index", *hosts])
    assert told[1] == {
        "UV_DEFAULT_INDEX": "https://u:p@two.example/simple",
        "UV_EXTRA_INDEX_URL": "file:///a/simple file:///b/simple",
        "UV_FIND_LINKS": "/opt/wheels,/srv/w",
        "SSL_CERT_FILE": "/etc/ca.crt",
        "HTTP_PROXY": "http://proxy:3128",
        "HTTPS_PROXY": "http://proxy:3128",
    }


@pytest.mark.parametrize(
    "settings",
    [None, "global.constraint='/c.txt'", ":env:.only-binary=':all:'", "global.index-url=broken"],
)
def test_where_pip_is_set_to_what_uv_is_not_told_pip_installs(settings: str | None) -> None:
    assert faster.sources(settings) is None


def test_interrupted_by_the_keyboard_it_says_how_to_go_on(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    process = checkout.begin()
    wait_for_line(process, "[2")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "The same command goes on from here." in err
    assert "Traceback" not in err.split("The set-up was interrupted")[-1]


def test_a_folder_that_is_no_environment_is_not_touched(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    precious = tmp_path / "home" / "letter.txt"
    precious.parent.mkdir()
    precious.write_text("dear")
    code, _, err = checkout.run(FRAMEDECK_VENV=str(precious.parent))
    assert code == 1
    assert "is no Python environment" in err
    assert [path.name for path in precious.parent.iterdir()] == ["letter.txt"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    code, _, err = Checkout(tmp_path).run(FRAMEDECK_VENV="/proc/nowhere/.venv")
    assert code == 1
    assert "The set-up stopped" in err
    assert "Traceback" not in err


def test_old_python_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer"):
        bootstrap._refuse_old_python("app")
