"""The fault matrix: whatever goes wrong with an update, the version before starts."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ProblemError
from core.updates import keys, seen
from core.updates.bundle import safe_link, safe_name
from core.updates.check import Found, Verdict, look
from core.updates.fetch import StoppedError, check_address
from core.updates.install import STEPS, Progress, alone, install
from core.updates.numbers import is_newer, key
from core.updates.program import Program
from core.updates.unpack import unpack
from tests.core.update_world import ROOT, World, day, make_bundle, served

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the bundles of these tests are scripts")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with served(World(tmp_path)) as made:
        yield made


def found(world: World, **more: Any) -> Found:
    return look(world.address, world.trusted, world.program, world.app, **more)


def put(world: World, offer: Found | None = None, **more: Any) -> list[Progress]:
    return list(
        install(offer or found(world), world.app, world.program, wait=lambda _: None, **more)
    )


def archive_of(world: World) -> str:
    return f"{world.app / 'work'}/{found(world).artefact.sha256}.part"


# -- a good one ---------------------------------------------------------------


def test_a_good_update_is_found_installed_and_started(world: World) -> None:
    assert world.version() == "0.1.0"
    world.publish("0.2.0", 1, notes="Faster starts.\nAnd a \x1b[31mcolour.")
    offer = found(world)
    assert (offer.verdict, offer.manifest.version) == (Verdict.OFFER, "0.2.0")
    assert offer.manifest.notes == "Faster starts.\nAnd a [31mcolour."
    steps = put(world, offer)
    assert list(dict.fromkeys(step.step for step in steps)) == list(STEPS)
    downloads = [step for step in steps if step.step == "download"]
    assert downloads[-1].done_bytes == downloads[-1].total_bytes == offer.artefact.size_bytes
    done = world.start("--theme", "dark")
    assert done.stdout.split() == ["0.2.0", "--theme", "dark"]
    assert not list((world.app / "work").iterdir())
    assert (world.app / "0.2.0" / "_internal" / "libpart.so").is_symlink()


def test_nothing_is_told_but_version_and_system(world: World) -> None:
    world.publish("0.2.0", 1)
    (world.root / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    os.environ["NETRC"] = str(world.root / ".netrc")
    try:
        put(world)
    finally:
        del os.environ["NETRC"]
    for path, headers in world.manners.asked:
        told = {name: value for name, value in headers.items() if name != "Host"}
        assert told == {
            "User-Agent": "Framedeck/0.1.0 (linux-x86_64)",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }, path
    assert [path for path, _ in world.manners.asked] == [
        "/manifest.json", "/manifest.json.sig", "/framedeck-0.2.0-linux-x86_64.tar.xz",
    ]  # fmt: skip


def test_nothing_newer_is_no_offer(world: World) -> None:
    world.publish("0.1.0", 1)
    assert found(world).verdict is Verdict.NEWEST
    world.sign([], version="0.0.9", sequence=2)
    assert found(world).verdict is Verdict.NEWEST
    with pytest.raises(ProblemError, match="no version to install"):
        put(world)


def test_what_cannot_be_installed_is_told(world: World) -> None:
    world.publish("0.3.0", 1, minimum="0.2.0", engine_since="0.2.0")
    offer = found(world)
    assert offer.verdict is Verdict.TOO_OLD
    assert offer.needs_engine
    world.sign([], version="0.3.0", sequence=2)
    assert found(world).verdict is Verdict.NO_FILE
    checkout = Program("0.1.0", "0.1.0", "linux-x86_64", can_install=False)
    by_hand = look(world.address, world.trusted, checkout, world.app)
    assert by_hand.verdict is Verdict.BY_HAND


# -- what is not believed -------------------------------------------------------


def test_a_bad_signature_is_refused(world: World) -> None:
    world.publish("0.2.0", 1)
    path = world.public / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"0.2.0", b"0.2.1"))
    with pytest.raises(ProblemError, match="signature of the list of updates is wrong"):
        found(world)
    assert seen.load(world.app).sequence == 0


def test_a_signature_that_is_none_is_refused(world: World) -> None:
    world.publish("0.2.0", 1)
    for text in (b"", b"[]", b"{}", b'{"key": "a b", "signature": ""}', b"\xff"):
        (world.public / "manifest.json.sig").write_bytes(text)
        with pytest.raises(ProblemError, match="cannot be read"):
            found(world)


def test_an_unknown_key_is_refused(world: World) -> None:
    world.publish("0.2.0", 1)
    other = world.root / "other.key"
    world.tool.make_key(other)
    assert stat.S_IMODE(other.stat().st_mode) == 0o600
    data = (world.public / "manifest.json").read_bytes()
    (world.public / "manifest.json.sig").write_bytes(world.tool.sign(data, other))
    with pytest.raises(ProblemError, match="a key that this version does not know"):
        found(world)


def test_the_name_of_a_known_key_helps_no_other(world: World) -> None:
    world.publish("0.2.0", 1)
    other = world.root / "other.key"
    world.tool.make_key(other)
    data = (world.public / "manifest.json").read_bytes()
    made = json.loads(world.tool.sign(data, other)) | {"key": next(iter(world.trusted))}
    (world.public / "manifest.json.sig").write_text(json.dumps(made))
    with pytest.raises(ProblemError, match="is wrong"):
        found(world)


def test_an_expired_manifest_is_told_as_held_back(world: World) -> None:
    world.publish("0.2.0", 1, days=3)
    assert found(world).verdict is Verdict.OFFER
    with pytest.raises(ProblemError, match="may be held back"):
        found(world, now=day(4))


def test_a_replayed_manifest_is_refused(world: World) -> None:
    world.publish("0.2.0", 1)
    old = {path.name: path.read_bytes() for path in world.public.glob("manifest*")}
    found(world)
    world.publish("0.3.0", 2)
    assert found(world).manifest.version == "0.3.0"
    world.manners.files.update(old)
    with pytest.raises(ProblemError, match="older than one that was seen") as caught:
        found(world)
    assert "update forget" in caught.value.problem.hint
    seen.forget(world.app)
    assert found(world).manifest.version == "0.2.0"


def test_two_manifests_of_one_number_are_refused(world: World) -> None:
    world.publish("0.2.0", 5)
    found(world)
    world.publish("0.3.0", 5)
    with pytest.raises(ProblemError, match="two lists of updates with the same number"):
        found(world)


def test_a_signed_manifest_that_makes_no_sense_is_refused(world: World) -> None:
    made = world.publish("0.2.0", 1)
    data = json.loads(world.tool.make_manifest([made], version="0.2.0", sequence=1, notes=""))
    for name, value in (
        ("version", "../0.2.0"), ("version", "1"), ("sequence", 0), ("sequence", True),
        ("released_at", "2026-01-01"), ("notes", 5), ("artefacts", 5), ("format", 2),
        ("minimum", None), ("engine_since", "new"), ("expires_at", 9e99),
    ):  # fmt: skip
        text = json.dumps(data | {name: value}).encode()
        (world.public / "manifest.json").write_bytes(text)
        (world.public / "manifest.json.sig").write_bytes(world.tool.sign(text, world.key))
        with pytest.raises(ProblemError, match=r"cannot be read|newer Framedeck"):
            found(world)


def test_an_artefact_never_names_a_path(world: World) -> None:
    made = world.publish("0.2.0", 1)
    for name, value in (
        ("name", "../../.bashrc"), ("name", "/etc/passwd"), ("name", ".hidden"), ("name", ""),
        ("sha256", "ab" * 31), ("sha256", "../" + "a" * 61), ("size", -1), ("size", 2**40),
        ("unpacked", 2**60), ("kind", "exe"),
    ):  # fmt: skip
        world.sign([made | {name: value}], version="0.2.0", sequence=2)
        with pytest.raises(ProblemError, match="cannot be read"):
            found(world)


def test_the_keys_that_ship_can_be_used() -> None:
    shipped = keys.load_keys()
    assert shipped
    assert all(len(public) == keys.KEY_BYTES for public in shipped.values())
    assert keys.built_in_address() == "" or check_address(keys.built_in_address())


def test_broken_keys_are_told(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for text in ("", "[]", '{"keys": [{"public": "AAAA"}]}', '{"keys": [{}]}'):
        path.write_text(text)
        with pytest.raises(ProblemError, match="keys for updates"):
            keys.load_keys(path)


# -- the server misbehaves --------------------------------------------------------


def test_a_server_that_refuses_changes_nothing(world: World) -> None:
    made = world.publish("0.2.0", 1)
    for name in ("manifest.json", "manifest.json.sig", made["name"]):
        for status in (404, 403, 500, 503):
            world.manners.status = {name: status}
            with pytest.raises(ProblemError, match=str(status)):
                put(world)
    assert world.version() == "0.1.0"


def test_no_server_at_all_is_a_problem(world: World) -> None:
    world.address = "http://127.0.0.1:1/manifest.json"
    with pytest.raises(ProblemError, match="could not be fetched"):
        found(world)


def test_redirects_are_followed_but_not_for_ever(world: World) -> None:
    world.publish("0.2.0", 1)
    real = {path.name: path.read_bytes() for path in world.public.glob("manifest*")}
    world.manners.files.update({f"moved-{name}": data for name, data in real.items()})
    world.manners.redirects.update({name: f"/moved-{name}" for name in real})
    assert found(world).verdict is Verdict.OFFER
    world.manners.redirects["moved-manifest.json"] = "/manifest.json"
    with pytest.raises(ProblemError, match="without end"):
        found(world)
    world.manners.redirects["manifest.json"] = "http://example.org/manifest.json"
    with pytest.raises(ProblemError, match="without encryption"):
        found(world)
    world.manners.redirects["manifest.json"] = "file:///etc/passwd"
    with pytest.raises(ProblemError, match="no address"):
        found(world)


def test_addresses_that_are_not_asked() -> None:
    for address in (
        "http://example.org/m.json", "ftp://example.org/m", "https://", "file:///etc/passwd",
        "https://me:pw@example.org/", "https://exa mple.org", "http://localhost.example.org/",
        "https://a:b/", "",
    ):  # fmt: skip
        with pytest.raises(ProblemError) as caught:
            check_address(address)
        assert caught.value.problem.field == "update_address"


def test_endless_answers_are_cut_off(world: World) -> None:
    world.publish("0.2.0", 1)
    world.manners.files["manifest.json"] = b" " * 1_000_000
    with pytest.raises(ProblemError, match="has no end"):
        found(world)


def test_a_connection_that_is_cut_goes_on_where_it_was(world: World) -> None:
    entry = world.publish("0.2.0", 1)
    third = entry["size"] // 3
    world.manners.cut_after = [third, third]
    put(world)
    asked = [headers.get("Range") for path, headers in world.manners.asked if "tar" in path]
    assert asked == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    assert world.version() == "0.2.0"


def test_a_download_that_brings_nothing_is_given_up_and_kept(world: World) -> None:
    entry = world.publish("0.2.0", 1)
    world.manners.cut_after = [100, 0, 0, 0, 0]
    with pytest.raises(ProblemError, match="stopped at"):
        put(world)
    part = Path(archive_of(world))
    assert part.stat().st_size == 100
    put(world)
    assert world.manners.asked[-1][1]["Range"] == "bytes=100-"
    assert entry["size"] > 100
    assert world.version() == "0.2.0"


def test_a_truncated_file_is_told(world: World) -> None:
    entry = world.publish("0.2.0", 1)
    data = (world.public / entry["name"]).read_bytes()
    world.manners.files[entry["name"]] = data[:-10]
    with pytest.raises(ProblemError, match="shorter on the server"):
        put(world)
    assert world.version() == "0.1.0"


@pytest.mark.parametrize("told", [True, False])
def test_a_longer_file_is_cut_off(world: World, told: bool) -> None:
    entry = world.publish("0.2.0", 1)
    data = (world.public / entry["name"]).read_bytes()
    if told:
        world.manners.files[entry["name"]] = data + b"more"
    else:
        # Resumed: the server says how much is left, and that is more than announced.
        part = Path(archive_of(world))
        part.parent.mkdir(parents=True)
        part.write_bytes(data[:-5])
        world.manners.files[entry["name"]] = data + b"more"
    with pytest.raises(ProblemError, match="longer on the server"):
        put(world)
    assert world.version() == "0.1.0"


def test_a_wrong_file_is_thrown_away(world: World) -> None:
    entry = world.publish("0.2.0", 1)
    data = bytearray((world.public / entry["name"]).read_bytes())
    data[len(data) // 2] ^= 1
    world.manners.files[entry["name"]] = bytes(data)
    with pytest.raises(ProblemError, match="not the one that was signed"):
        put(world)
    assert not Path(archive_of(world)).exists()
    assert world.version() == "0.1.0"


def test_a_spoiled_part_is_fetched_anew(world: World) -> None:
    world.publish("0.2.0", 1)
    part = Path(archive_of(world))
    part.parent.mkdir(parents=True)
    part.write_bytes(b"spoiled")
    (part.parent / "other.part").write_bytes(b"of another version")
    put(world)
    assert world.version() == "0.2.0"
    assert not list(part.parent.iterdir())


def test_stopping_keeps_the_part_and_the_version(world: World) -> None:
    world.publish("0.2.0", 1)
    offer, wanted = found(world), []
    with pytest.raises(StoppedError):
        for step in install(offer, world.app, world.program, stopped=lambda: bool(wanted)):
            if step.step == "download" and step.done_bytes:
                wanted.append(step)
    assert world.version() == "0.1.0"


# -- the disk -------------------------------------------------------------------


def test_room_is_looked_for_before_anything_is_fetched(world: World) -> None:
    world.publish("0.2.0", 1)
    offer = found(world)
    before = len(world.manners.asked)
    with pytest.raises(ProblemError, match=r"needs .* on the disk"):
        put(world, offer, free_bytes=lambda _: 10_000)
    assert len(world.manners.asked) == before


def test_a_disk_that_fills_up_is_told_and_changes_nothing(world: World) -> None:
    world.publish("0.2.0", 1)
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
from core.errors import ProblemError
from core.updates import keys
from core.updates.check import look
from core.updates.install import install
from core.updates.program import Program
program = Program("0.1.0", "0.1.0", "linux-x86_64", True)
found = look({world.address!r}, keys.load_keys(Path({str(world.trusted_file)!r})), program,
             Path({str(world.app)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    list(install(found, Path({str(world.app)!r}), program))
except ProblemError as error:
    print(error.problem.category, error.problem.message, error.problem.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("storage The update could not be written"), done.stderr
    assert os.strerror(errno.EFBIG) in done.stdout
    assert "Make room" in done.stdout
    assert world.version() == "0.1.0"
    put(world)
    assert world.version() == "0.2.0"


def test_two_do_not_install_at_once(world: World) -> None:
    world.publish("0.2.0", 1)
    offer = found(world)
    with alone(world.app), pytest.raises(ProblemError, match="installed already"):
        put(world, offer)
    put(world, offer)


# -- evil archives ---------------------------------------------------------------


def evil(tmp_path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = tmp_path / "evil.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        for entry, data in entries:
            entry.size = len(data) if entry.isreg() else 0
            tar.addfile(entry, io.BytesIO(data) if entry.isreg() else None)
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, target, 0o4777
    return made


@pytest.mark.parametrize(
    "made",
    [
        [(entry("/etc/evil"), b"x")],
        [(entry("framedeck/../../evil"), b"x")],
        [(entry("evil"), b"x")],
        [(entry("framedeck/a\\..\\..\\evil"), b"x")],
        [(entry("framedeck/C:evil"), b"x")],
        [(entry("framedeck/NUL.txt"), b"x")],
        [(entry("framedeck/l", tarfile.SYMTYPE, "/etc"), b"")],
        [(entry("framedeck/l", tarfile.SYMTYPE, "../../etc"), b"")],
        [(entry("framedeck/l", tarfile.SYMTYPE, "."), b""), (entry("framedeck/l/evil"), b"x")],
        [(entry("framedeck/l", tarfile.SYMTYPE, "b"), b""), (entry("framedeck/l"), b"x")],
        [(entry("framedeck/a"), b"x"), (entry("framedeck/A"), b"y")],
        [(entry("framedeck/a"), b"x"), (entry("framedeck/b", tarfile.LNKTYPE, "/etc/passwd"), b"")],
        [(entry("framedeck/dev", tarfile.CHRTYPE), b"")],
        [(entry("framedeck/pipe", tarfile.FIFOTYPE), b"")],
        [(entry("framedeck", tarfile.SYMTYPE, "/tmp"), b"")],
        [(entry("framedeck/bomb"), b"\0" * 2_000_000)],
    ],
)
def test_evil_archives_are_refused(tmp_path: Path, made: list[Any]) -> None:
    into = tmp_path / "a" / "b" / "new"
    into.parent.mkdir(parents=True)
    with pytest.raises(ProblemError, match="downloaded version"):
        list(unpack(evil(tmp_path, *made), "tar.xz", into, 1_000_000))
    outside = [path for path in tmp_path.rglob("*evil*") if path.name != "evil.tar.xz"]
    assert outside == []
    assert sum(path.stat().st_size for path in into.rglob("*") if path.is_file()) <= 1_000_000


def test_modes_are_plain(tmp_path: Path) -> None:
    list(unpack(evil(tmp_path, (entry("framedeck/a"), b"x")), "tar.xz", tmp_path / "n", 10))
    assert stat.S_IMODE((tmp_path / "n" / "a").stat().st_mode) == 0o755


def test_zips_are_unpacked_with_the_same_care(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "a.zip"
    for name in ("framedeck/../evil", "/evil", "other/evil", "framedeck/x:evil"):
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr(name, b"x")
        with pytest.raises(ProblemError, match="lie elsewhere"):
            list(unpack(path, "zip", tmp_path / f"n{len(name)}", 10))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("framedeck/bomb", b"\0" * 5_000_000)
    with pytest.raises(ProblemError, match="more than announced"):
        list(unpack(path, "zip", tmp_path / "bomb", 1_000_000))
    link = zipfile.ZipInfo("framedeck/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(link, b"/etc/passwd")
    with pytest.raises(ProblemError, match="no plain file"):
        list(unpack(path, "zip", tmp_path / "link", 100))


@pytest.mark.parametrize("spoil", [lambda d: d[:-20], lambda d: d[:50] + b"x" * 40 + d[90:]])
@pytest.mark.parametrize("kind", ["tar.xz", "zip"])
def test_damaged_archives_are_a_problem(
    world: World, kind: str, spoil: Callable[[bytes], bytes]
) -> None:
    bundle = make_bundle(world.root / "b", "0.2.0")
    if kind == "zip":
        (bundle / "_internal" / "libpart.so").unlink()
    made = world.tool.pack(bundle, world.root, "0.2.0", "windows" if kind == "zip" else "linux")
    path = world.root / made["name"]
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ProblemError, match="downloaded version"):
        list(unpack(path, kind, world.root / "into", 10_000_000))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_no_name_and_no_link_leaves_its_folder(name: str, target: str) -> None:
    top = Path("/top/bundle")
    if safe_name(name):
        assert Path(os.path.normpath(top / name)).is_relative_to(top)
        if safe_link(name, target):
            gone = os.path.normpath((top / name).parent / target)
            assert Path(gone).is_relative_to(top)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="0123456789.abrc-+ ٣", max_size=12), st.text(max_size=8))
def test_versions_sort_and_stay_names(version: str, other: str) -> None:
    if key(version) is not None:
        assert safe_name(version)
        assert not is_newer(version, version)
    assert not (is_newer(version, other) and is_newer(other, version))


def test_versions_in_order() -> None:
    order = ["0.1.0", "0.2.0a1", "0.2.0b2", "0.2.0rc1", "0.2.0", "0.2.1", "0.10.0", "1.0"]
    for first, second in pairwise(order):
        assert is_newer(second, first)
        assert not is_newer(first, second)
    for word in ("", "1", "0.02.0", "1.0.0.0.0", "v1.0", "0.1.0-x", "../1.0", "1.0/2"):
        assert key(word) is None


# -- how often ---------------------------------------------------------------------


def test_nobody_asks_more_than_daily_by_itself(tmp_path: Path) -> None:
    assert seen.is_due(seen.load(tmp_path), 1_000_000.0)
    for chance in (0.0, 0.5, 0.99):
        seen.looked(tmp_path, 1_000_000.0, lambda chance=chance: chance)
        now = seen.load(tmp_path)
        assert not seen.is_due(now, 1_000_000.0 + seen.DAY_SECONDS - 1)
        assert seen.is_due(now, 1_000_000.0 + seen.DAY_SECONDS + seen.JITTER_SECONDS)
    assert seen.is_due(now, 1.0)  # The clock was set back for years.


def test_a_look_that_fails_counts_too(world: World) -> None:
    world.manners.status["manifest.json"] = 500
    with pytest.raises(ProblemError):
        found(world)
    assert not seen.is_due(seen.load(world.app), time.time())
