"""The engine's environment: real wheels, a real server that misbehaves, real kills."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from packaging.requirements import Requirement

from core import engine_env
from core.engine_env import card, checking, installing, locks, planning, repairing, state
from core.engine_env.card import Card
from core.engine_env.checking import Checked
from core.engine_env.layout import STAMP, Layout
from core.engine_env.planning import Choice
from core.engine_env.steps import Cancelled, Done, Progress, Step, Told
from core.errors import Category, Problem, ProblemError
from core.places import Places
from tests.core.engine_shop import Manners, Shop, make_lock, make_wheel

KILLS = 10
SIZES = {"tinya": 3_000, "tinyb": 120_000, "tinyc": 500}
THIS = Choice(python=Path(sys.executable))


@pytest.fixture(autouse=True)
def managed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine_env.VARIABLE, "managed")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.find(tmp_path / "home").make()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    (tmp_path / "wheels").mkdir()
    for name, size in SIZES.items():
        make_wheel(tmp_path / "wheels", name, size)
    made = Shop(tmp_path / "wheels")
    make_lock(tmp_path / "locks", wheels_of(made), made.base)
    yield made
    made.close()


def wheels_of(shop: Shop) -> list[Path]:
    return sorted(shop.folder.glob("*.whl"))


def locks_of(shop: Shop) -> Path:
    return shop.folder.parent / "locks"


def install(
    places: Places, shop: Shop, choice: Choice = THIS, cancelled: Callable[[], bool] = bool
) -> list[Step]:
    return list(installing.install(places, choice, cancelled, locks_of(shop), 0.01))


def told(places: Places, shop: Shop, choice: Choice = THIS) -> Problem:
    """Return the problem an installation ends with; nothing must be in use after it."""
    with pytest.raises(ProblemError) as caught:
        install(places, shop, choice)
    assert engine_env.active(places) is None
    problem = caught.value.problem
    assert problem.hint
    return problem


def says(python: Path, name: str) -> str:
    command = [str(python), "-I", "-c", f"import {name}; print({name}.NAME)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def assert_whole(places: Places) -> None:
    python = engine_env.active(places)
    assert python is not None
    for name in SIZES:
        assert says(python, name) == name
    found = [one for one in engine_env.check(places, deep=True) if isinstance(one, Checked)]
    assert [one.whole for one in found] == [True]


# -- the plain way ------------------------------------------------------------------


def test_installs_what_is_locked_and_tells_real_bytes(places: Places, shop: Shop) -> None:
    assert engine_env.active(places) is None
    assert engine_env.engine_python(places) == ""
    assert engine_env.engine_python(places, "/my/python") == "/my/python"
    steps = install(places, shop)
    done = steps[-1]
    assert isinstance(done, Done)
    assert engine_env.active(places) == Path(done.interpreter)
    assert_whole(places)
    fetched = [s for s in steps if isinstance(s, Progress) and s.phase == "fetch"]
    counts = [step.done_bytes for step in fetched]
    total = sum(wheel.stat().st_size for wheel in wheels_of(shop))
    assert counts == sorted(counts)
    assert counts[-1] == total == fetched[-1].total_bytes
    found = state.look(places)
    assert (found.state, found.active) == (state.READY, done.name)
    assert not (Layout.of(places).root / "cache").exists()
    # Again: nothing is fetched, and it is the same one.
    before = len(shop.asked)
    assert isinstance(install(places, shop)[-1], Done)
    assert len(shop.asked) == before
    assert state.look(places).active == done.name


def test_without_uv_the_pip_of_a_python_does_it(
    places: Places, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.frozen.uv", lambda: None)
    assert isinstance(install(places, shop)[-1], Done)
    assert_whole(places)


def test_a_checkout_uses_its_own_python(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(engine_env.VARIABLE)
    assert engine_env.active(places) == Path(sys.executable)
    assert state.look(places).state == state.OWN


def test_the_plan_tells_sizes_before(places: Places, shop: Shop, tmp_path: Path) -> None:
    plan = planning.make(places, THIS, locks_of(shop))
    total = sum(wheel.stat().st_size for wheel in wheels_of(shop))
    assert (plan.download_bytes, plan.fetch_bytes, plan.disk_bytes) == (total, total, 2 * total)
    assert plan.need_bytes == 3 * total + planning.MARGIN_BYTES
    assert plan.enough
    offline = planning.make(places, replace(THIS, wheels=shop.folder), locks_of(shop))
    assert (offline.fetch_bytes, offline.found_bytes) == (0, total)
    assert not Layout.of(places).root.exists()  # To ask makes nothing.


# -- kills --------------------------------------------------------------------------

_RUN = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from core.engine_env import installing
from core.engine_env.planning import Choice
from core.places import Places
from core.engine_env import download, locks, pythons, checking
import requests, packaging.pylock, urllib3.exceptions, core.engines.local.lifeline
for line in sys.stdin:  # What a real start has loaded by then is no part of what is killed.
    places = Places.find(Path(sys.argv[2]))
    for step in installing.install(
        places, Choice(python=Path(sys.executable)), bool, Path(sys.argv[3]), 0.01
    ):
        pass
    print("done", flush=True)
"""


def killed(places: Places, shop: Shop, after: float) -> bool:
    """Install in a process that is killed; say whether it was before its end."""
    command = [sys.executable, "-c", _RUN, str(Path(__file__).parents[2]), str(places.data)]
    command.append(str(locks_of(shop)))
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("go\n")
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    rest = child.communicate()[0]
    return "done" not in rest


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX")
def test_killed_at_any_moment_the_next_start_ends_whole(places: Places, shop: Shop) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    shop.manners = Manners(pause=0.004)
    began = time.monotonic()
    install(places, shop)
    whole = time.monotonic() - began + 0.35  # And what the child takes to load its modules.
    hit = 0
    for _ in range(KILLS):
        engine_env.remove(places)
        hit += killed(places, shop, chance.uniform(0.15, whole))
        python = engine_env.active(places)
        if python is not None:  # It was far enough: then it must be whole as it lies there.
            assert {says(python, name) for name in SIZES} == set(SIZES)
        assert isinstance(install(places, shop)[-1], Done)
        python = engine_env.active(places)
        assert python is not None
        assert {says(python, name) for name in SIZES} == set(SIZES)
        assert not Layout.of(places).halves()
    assert_whole(places)
    assert hit >= KILLS // 3, f"only {hit} of {KILLS} kills came before the end (seed {seed})"


# -- the network --------------------------------------------------------------------


def test_goes_on_where_it_was_cut_off(places: Places, shop: Shop) -> None:
    shop.manners = Manners(cut=16_384)
    assert isinstance(install(places, shop)[-1], Done)
    parts = [part for path, part in shop.asked if "tinyb" in path]
    assert parts[:3] == ["", "bytes=16384-", "bytes=32768-"]
    assert_whole(places)


def test_begins_anew_where_a_server_sends_no_parts(places: Places, shop: Shop) -> None:
    part = Layout.of(places).wheels / "tinyb-1.0-py3-none-any.whl.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 5000)
    shop.manners = Manners(ranges=False)
    assert isinstance(install(places, shop)[-1], Done)
    assert [p for path, p in shop.asked if "tinyb" in path] == ["bytes=5000-"]
    assert_whole(places)


def test_cancel_keeps_what_was_fetched(places: Places, shop: Shop) -> None:
    shop.manners = Manners(pause=0.02)
    asked = 0

    def cancelled() -> bool:
        """Say so after some pieces, however slow the machine is."""
        nonlocal asked
        asked += bool(shop.asked)
        return asked > 12

    steps = install(places, shop, cancelled=cancelled)
    stopped = steps[-1]
    assert isinstance(stopped, Cancelled)
    assert stopped.kept_bytes > 0
    assert state.look(places).state == state.BEGUN
    shop.manners = Manners()
    before = len(shop.asked)
    assert isinstance(install(places, shop)[-1], Done)
    assert any(part for _, part in shop.asked[before:])
    assert_whole(places)


def test_a_wrong_file_is_never_used(places: Places, shop: Shop) -> None:
    shop.manners = Manners(lie=1)
    assert isinstance(install(places, shop)[-1], Done)  # The second try was right.
    engine_env.remove(places)
    shop.manners = Manners(lie=100)
    problem = told(places, shop)
    assert problem.field == "hash"
    assert "checksum" in problem.message
    assert not list(Layout.of(places).wheels.iterdir())


def test_a_damaged_file_of_an_earlier_try_is_fetched_again(places: Places, shop: Shop) -> None:
    kept = Layout.of(places).wheels / "tinya-1.0-py3-none-any.whl"
    kept.parent.mkdir(parents=True)
    data = (shop.folder / kept.name).read_bytes()
    kept.write_bytes(data[:-1] + b"?")
    assert isinstance(install(places, shop)[-1], Done)
    assert_whole(places)


def test_more_than_the_lock_says_is_not_taken(places: Places, shop: Shop) -> None:
    shop.manners = Manners(more=50_000)
    assert isinstance(install(places, shop)[-1], Done)
    assert_whole(places)


@pytest.mark.parametrize(
    ("status", "field", "words"),
    [(404, "network", "does not have"), (403, "network", "refuses"), (503, "network", "refuses")],
)
def test_a_server_without_the_file(
    places: Places, shop: Shop, status: int, field: str, words: str
) -> None:
    shop.manners = Manners(status=status)
    problem = told(places, shop)
    assert (problem.field, problem.category) == (field, Category.NETWORK_ERROR)
    assert words in problem.message
    assert str(status) in problem.message


def test_a_server_that_is_not_there(places: Places, shop: Shop) -> None:
    gone = Shop(shop.folder)
    gone.close()
    make_lock(locks_of(shop), wheels_of(shop), gone.base)
    problem = told(places, shop)
    assert problem.message == "127.0.0.1 cannot be reached."


def test_a_proxy_that_wants_a_password(places: Places, shop: Shop) -> None:
    shop.manners = Manners(status=407)
    secret = f"http://me:secret@127.0.0.1:{shop.server.server_address[1]}"
    problem = told(places, shop, replace(THIS, proxy=secret))
    assert problem.field == "proxy"
    assert "407" in problem.message
    assert "secret" not in json.dumps(problem.to_json())
    # The same for what is fetched over TLS, where it refuses the tunnel.
    make_lock(locks_of(shop), wheels_of(shop), "https://files.example.org")
    problem = told(places, shop, replace(THIS, proxy=secret))
    assert (problem.field, "407" in problem.message) == ("proxy", True)
    assert ("files.example.org:443", "CONNECT") in shop.asked
    assert "secret" not in json.dumps(problem.to_json())


def test_a_proxy_that_is_not_there(
    places: Places, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Shop(shop.folder)
    gone.close()
    make_lock(locks_of(shop), wheels_of(shop), "http://files.example.org")
    monkeypatch.setenv("HTTP_PROXY", gone.base)
    problem = told(places, shop)
    assert (problem.field, "407" in problem.message) == ("proxy", False)


def test_a_certificate_that_nobody_signed(places: Places, shop: Shop, tmp_path: Path) -> None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_self_signed(tmp_path))
    shop.server.socket = context.wrap_socket(shop.server.socket, server_side=True)
    make_lock(locks_of(shop), wheels_of(shop), shop.base.replace("http:", "https:"))
    assert told(places, shop).field == "certificate"


def _self_signed(folder: Path) -> Path:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "own.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


# -- the disk -----------------------------------------------------------------------


def test_too_little_space_is_told_before_anything_is_fetched(places: Places, shop: Shop) -> None:
    make_lock(locks_of(shop), wheels_of(shop), shop.base, unpacked=10**15)
    problem = told(places, shop)
    assert (problem.field, problem.category) == ("disk", Category.STORAGE)
    assert str(Layout.of(places).root) in problem.message
    assert "missing" in problem.message
    assert shop.asked == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_disk_that_becomes_full_in_the_midst(places: Places, shop: Shop) -> None:
    part = Layout.of(places).wheels / "tinyb-1.0-py3-none-any.whl.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    problem = told(places, shop)
    assert (problem.field, problem.category) == ("disk", Category.STORAGE)
    assert "became full" in problem.message


# -- a folder of wheels ---------------------------------------------------------------


def test_a_folder_of_wheels_needs_no_network(places: Places, shop: Shop) -> None:
    assert isinstance(install(places, shop, replace(THIS, wheels=shop.folder))[-1], Done)
    assert shop.asked == []
    assert len(wheels_of(shop)) == 3  # They are the person's, and stay.
    assert_whole(places)


def test_a_wrong_file_in_the_folder_is_named(places: Places, shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    data = (shop.folder / "tinyb-1.0-py3-none-any.whl").read_bytes()
    (folder / "tinyb-1.0-py3-none-any.whl").write_bytes(data[:-1] + b"?")
    problem = told(places, shop, replace(THIS, wheels=folder))
    assert problem.field == "hash"
    assert str(folder) in problem.message


# -- choices --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "tags"),
    [
        (Card(), ("cpu",)),
        (Card((12, 4), (8, 9)), ("cpu",)),
        (Card((12, 6), (8, 9)), ("cu126", "cpu")),
        (Card((12, 9), (8, 9)), ("cu128", "cu126", "cpu")),
        (Card((13, 2), (12, 0)), ("cu130", "cu128", "cpu")),
        (Card((13, 0), (6, 1)), ("cu126", "cpu")),
    ],
)
def test_the_driver_decides_the_build(found: Card, tags: tuple[str, ...]) -> None:
    assert card.fitting(found) == tags


def test_a_build_that_is_not_locked_gives_way_and_says_so(places: Places, shop: Shop) -> None:
    picked = locks.pick(locks_of(shop), Card((12, 8), (8, 9)))
    assert (picked.tag, picked.fits) == ("cpu", False)
    assert "cu128 and cu126" in picked.why
    with pytest.raises(ProblemError) as caught:
        locks.pick(locks_of(shop), Card(), "cu128")
    assert "not locked yet" in caught.value.problem.message
    with pytest.raises(ProblemError):
        locks.pick(locks_of(shop), Card(), "../cpu")


@pytest.mark.parametrize(
    "choice",
    [
        Choice(wheels=Path("/no/such/folder")),
        Choice(proxy="proxy.example.org"),
        Choice(proxy="ftp://proxy.example.org"),
        Choice(proxy="http://proxy:99999"),
        Choice(python=Path("/bin/false")),
        Choice(tag="cu999"),
    ],
)
def test_what_cannot_be_meant_is_refused(places: Places, shop: Shop, choice: Choice) -> None:
    problem = told(places, shop, choice)
    assert problem.category is Category.INVALID_PARAMS
    assert problem.field
    assert not Layout.of(places).root.joinpath("work.json").exists()


def test_no_python_that_fits(
    places: Places, shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    problem = told(places, shop, Choice())
    assert problem.field == "python"
    assert "3.11" in problem.message


_BAD = {
    "a path": ("tinya-1.0-py3-none-any.whl", "../../tinya-1.0-py3-none-any.whl"),
    "another package": ('name = "tinya-1.0', 'name = "other-1.0'),
    "no checksum": ("sha256 = ", "md5 = "),
    "no size": ("size = ", "other = "),
    "no web address": ("http://", "file://"),
    "no wheel": ('-py3-none-any.whl", url', '.tar.gz", url'),
}


@pytest.mark.parametrize("what", list(_BAD))
def test_a_lock_that_nobody_could_verify_is_refused(shop: Shop, what: str) -> None:
    path = locks.path_of(locks_of(shop), "cpu")
    before = path.read_text()
    after = before.replace(*_BAD[what])
    assert after != before
    path.write_text(after)
    with pytest.raises(ProblemError) as caught:
        locks.load(path, "cpu")
    assert caught.value.problem.field == "lock"


@given(some.text(max_size=30))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    layout = Layout(Path("/engine"))
    try:
        folder = layout.environment(name)
    except ProblemError:
        assert layout.stamp(name) is None
    else:
        assert folder.parent == layout.root


# -- what is there already --------------------------------------------------------------


def test_switches_back_and_keeps_the_one_before(places: Places, shop: Shop) -> None:
    layout = Layout.of(places)
    names = []
    for _ in range(3):
        done = install(places, shop, replace(THIS, again=True))[-1]
        assert isinstance(done, Done)
        names.append(done.name)
    assert layout.names() == [names[2], names[1]]  # The first of three is gone.
    assert layout.chosen() == (names[2], names[1])
    engine_env.use(places, names[1])
    assert layout.chosen() == (names[1], names[2])
    (layout.environment(names[2]) / STAMP).unlink()
    with pytest.raises(ProblemError):
        engine_env.use(places, names[2])
    assert layout.active_name() == names[1]


def test_repairs_only_what_is_damaged(places: Places, shop: Shop) -> None:
    install(places, shop)
    name = Layout.of(places).active_name()
    site = next((Layout.of(places).environment(name)).glob("lib/python3*/site-packages"))
    (site / "tinyb" / "weights.bin").write_bytes(b"short")
    (site / "tinyc" / "__init__.py").unlink()
    found = list(engine_env.check(places, deep=True))[-1]
    assert isinstance(found, Checked)
    assert [one.name for one in found.damaged] == ["tinyb", "tinyc"]
    assert found.problem is not None
    shop.asked.clear()
    # The lock that it was made from is used, even where the program has another by now.
    make_lock(locks_of(shop), wheels_of(shop)[:1], shop.base)
    steps = list(repairing.repair(places, Choice()))
    assert isinstance(steps[-1], Done)
    assert {path.split("-")[0] for path, _ in shop.asked} == {"/tinyb", "/tinyc"}
    assert Layout.of(places).active_name() == name
    assert_whole(places)


def test_a_repair_that_was_cut_off_goes_on(places: Places, shop: Shop) -> None:
    install(places, shop)
    layout = Layout.of(places)
    name = layout.active_name()
    site = next(layout.environment(name).glob("lib/python3*/site-packages"))
    (site / "tinyb" / "weights.bin").unlink()
    for step in repairing.repair(places, Choice()):
        if isinstance(step, Progress) and step.phase == "install":
            break  # As a kill would: whoever drained it is gone.
    assert engine_env.active(places) is None
    assert state.look(places).state == state.BEGUN
    assert isinstance(list(repairing.repair(places, Choice()))[-1], Done)
    assert layout.active_name() == name
    assert_whole(places)


def test_a_python_that_is_gone_is_made_anew(
    places: Places, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(places, shop)
    layout = Layout.of(places)
    first = layout.active_name()
    python = layout.interpreter(first)
    python.unlink()
    assert engine_env.active(places) is None
    assert state.look(places).state == state.BROKEN
    found = list(engine_env.check(places))[-1]
    assert isinstance(found, Checked)
    assert found.problem is not None
    assert found.problem.field == "python"
    monkeypatch.setattr("core.frozen.engine_locks", lambda: locks_of(shop))
    assert isinstance(list(repairing.repair(places, THIS))[-1], Done)
    assert layout.active_name() != first
    assert_whole(places)


def test_packages_that_do_not_start_are_not_used(places: Places, shop: Shop) -> None:
    make_wheel(shop.folder, "tinyc", body="raise ImportError('no such card')\n")
    make_lock(locks_of(shop), wheels_of(shop), shop.base)
    problem = told(places, shop)
    assert "no such card" in problem.details


def test_remove_takes_everything(places: Places, shop: Shop) -> None:
    install(places, shop)
    assert engine_env.remove(places)
    assert engine_env.active(places) is None
    left = {item.name for item in Layout.of(places).root.iterdir()}
    assert left <= {"install.lock"}
    with pytest.raises(ProblemError):
        engine_env.remove(places, "cpu-0123456789")


def test_two_at_once_wait_for_each_other(
    places: Places, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.engine_env.alone import alone

    layout = Layout.of(places)
    monkeypatch.setattr(repairing, "_SHORT_SECONDS", 0.1)
    with alone(layout.alone), pytest.raises(ProblemError) as caught:
        engine_env.remove(places)
    assert "at work" in caught.value.problem.message
    with alone(layout.alone):
        steps = install(places, shop, cancelled=lambda: True)
    assert isinstance(steps[-1], Cancelled)
    assert steps[0] == Progress("wait")


def test_what_is_told_of_a_build_that_does_not_fit_best(
    places: Places, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "read_card", lambda: Card((12, 8), (8, 9), "a card"))
    steps = install(places, shop)
    assert isinstance(steps[0], Told)
    assert "no build for it is locked yet" in steps[0].text
    assert isinstance(steps[-1], Done)


def test_the_locks_that_ship_are_sound() -> None:
    folder = Path(__file__).parents[2] / "packaging" / "engine"
    paths = sorted(folder.glob("pylock.*.toml"))
    assert len(paths) >= 3
    for path in paths:
        tag = path.stem.rpartition("-")[2]
        lock = locks.load(path, tag)
        assert "torch" in lock.imports
        text = path.read_text()
        torch = next(one for one in lock.parsed.packages if one.name == "torch")
        assert torch.version is not None
        assert (torch.version.local or tag) == tag
        assert "opencv-python-headless" in text
        if locks.platform_name() in path.name:
            assert "3.11" in lock.pythons
            assert all(w.unpacked_bytes > 0 for w in lock.wheels("3.11"))


def test_the_locks_that_ship_hold_what_pyproject_asks_for() -> None:
    folder = Path(__file__).parents[2] / "packaging" / "engine"
    spec = importlib.util.spec_from_file_location("engine_lock", folder / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    wanted = [Requirement(text) for text in maker.requirements()]
    assert {"torch", "diffusers", "av", "opencv-python-headless"} <= {one.name for one in wanted}
    for path in folder.glob("pylock.*.toml"):
        packages = locks.load(path, "any").parsed.packages
        for one in wanted:
            found = [item.version for item in packages if item.name == one.name]
            assert found, f"{path.name} lacks {one.name}: run packaging/engine/lock.py"
            good = all(one.specifier.contains(str(version)) for version in found)
            assert good, f"{path.name}: {one} is {found}: run packaging/engine/lock.py"


def test_checking_names_files_outside_as_damaged(places: Places, shop: Shop) -> None:
    install(places, shop)
    layout = Layout.of(places)
    name = layout.active_name()
    record = next(
        layout.environment(name).glob("lib/python3*/site-packages/tinya-1.0.dist-info/RECORD")
    )
    record.write_text(record.read_text() + "../../../../../../../etc/hostname,,\n")
    found = checking.damages(layout, name, {"tinya": "1.0"})
    try:
        while True:
            next(found)
    except StopIteration as end:
        assert [one.name for one in end.value] == ["tinya"]
    assert all("hostname" not in str(path) for path in checking.remains(layout, name, "tinya"))
