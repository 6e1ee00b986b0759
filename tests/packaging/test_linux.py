"""The packages for Linux: what they say of the program, and that the same gives the same bytes."""

from __future__ import annotations

import configparser
import gzip
import importlib.util
import os
import re
import shutil
import subprocess
import tarfile
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from PySide6.QtGui import QImage

from app import main as program
from app import system_check

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
LINUX = PACKAGING / "linux"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
STAMP = 1_600_000_000
MIME = "{http://www.freedesktop.org/standards/shared-mime-info}"
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"packaging_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


linux, icons, updates = (
    load(LINUX / "build_linux.py"), load(PACKAGING / "make_icons.py"),
    load(PACKAGING / "sign_update.py"),
)  # fmt: skip


def desktop_entry() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(LINUX / "framedeck.desktop", encoding="utf-8")
    return found


def types() -> dict[str, ElementTree.Element]:
    tree = ElementTree.parse(LINUX / "framedeck-mime.xml")
    return {one.attrib["type"]: one for one in tree.getroot().iter(f"{MIME}mime-type")}


def metainfo() -> ElementTree.Element:
    return ElementTree.fromstring(linux.filled(linux.METAINFO, VERSION, STAMP))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A made-up bundle: a program that says what it was given, a library and a link."""
    folder = tmp_path / "made" / "framedeck"
    inside = folder / "_internal"
    (inside / "source" / "resources" / "icons").mkdir(parents=True)
    drawing = ROOT / "resources" / "icons" / "framedeck.svg"
    shutil.copy(drawing, inside / "source" / "resources" / "icons")
    start = folder / "framedeck"
    start.write_text('#!/bin/sh\necho "started $*"\n')
    start.chmod(0o755)
    (inside / "libthing.so.1").write_bytes(bytes(range(256)) * 40)
    (inside / "libthing.so").symlink_to("libthing.so.1")
    load(PACKAGING / "file_list.py").write_list(folder, VERSION)
    return folder


def copied(bundle: Path, to: Path) -> Path:
    """The same bundle as another machine would leave it: other times, in another order."""
    for path in sorted(bundle.rglob("*"), reverse=True):
        if path.is_file() and not path.is_symlink():
            target = to / path.relative_to(bundle)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o700 if os.access(path, os.X_OK) else 0o600)
    (to / "_internal" / "libthing.so").symlink_to("libthing.so.1")
    return to


# -- what the desktop is told -------------------------------------------------------


def test_packaging_is_no_package() -> None:
    """As one it would stand in the place of PyPI's own `packaging`."""
    assert list(PACKAGING.rglob("__init__.py")) == []


def test_the_desktop_entry_starts_what_there_is() -> None:
    entry = desktop_entry()
    main = entry["Desktop Entry"]
    assert main["Exec"] == "framedeck %F"
    assert main["StartupWMClass"] == main["Icon"] == "framedeck"
    names = [name for name in main["Actions"].split(";") if name]
    assert {f"Desktop Action {name}" for name in names} == set(entry.sections()[1:])
    for section in entry.sections()[1:]:
        words = entry[section]["Exec"].split()
        assert words[0] == "framedeck"
        options = program._options(words[1:])
        assert options.show in program.PANELS
    if shutil.which("desktop-file-validate"):
        subprocess.run(["desktop-file-validate", LINUX / "framedeck.desktop"], check=True)


def test_types_are_the_same_in_all_files() -> None:
    named = {name for name in desktop_entry()["Desktop Entry"]["MimeType"].split(";") if name}
    told = {one.text for one in metainfo().iter("mediatype")}
    assert named == told == set(types())


def test_no_type_claims_the_files_of_others() -> None:
    """Whoever has *.json or *.zip as a pattern gets all of them, whatever is in them."""
    globs = [one.attrib["pattern"] for kind in types().values() for one in kind.iter(f"{MIME}glob")]
    assert sorted(globs) == ["*.framedeck.json", "*.framedeck.zip"]


def test_metainfo_is_of_this_version_and_valid(tmp_path: Path) -> None:
    found = metainfo()
    releases = [one.attrib["version"] for one in found.iter("release")]
    assert releases[0] == VERSION
    assert found.findtext("launchable") == "framedeck.desktop"
    assert f"{found.findtext('id')}.metainfo.xml" == linux.METAINFO
    if shutil.which("appstreamcli"):
        path = tmp_path / linux.METAINFO
        path.write_text(linux.filled(linux.METAINFO, VERSION, STAMP), "utf-8")
        subprocess.run(["appstreamcli", "validate", "--no-net", path], check=True)


def test_the_manual_names_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    page = linux.filled("framedeck.1", VERSION, STAMP).replace("\\-", "-")
    assert VERSION in page
    for command in program.COMMANDS:
        assert f"\n.B {command}\n" in page, command
    with pytest.raises(SystemExit):
        program._options(["--help"])
    helped = capsys.readouterr().out
    options = set(re.findall(r"^  (?:-h, )?(--[\w-]+)", helped, re.MULTILINE)) - {"--help"}
    assert len(options) >= 8
    for option in options:
        assert re.search(rf"^\.B\w? {option}\b", page, re.MULTILINE), option
    for command in program.COMMANDS:
        assert f"{command} (" in " ".join(helped.split()), command


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_the_manual_is_set_without_a_warning(tmp_path: Path) -> None:
    page = tmp_path / "framedeck.1"
    page.write_text(linux.filled("framedeck.1", VERSION, STAMP), "utf-8")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-wall", "-wmac", "-z", page],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_each_override_of_lintian_has_a_reason_here() -> None:
    """What names folders of the machine that builds is a fault, and never one to look away from."""
    lines = (LINUX / "lintian-overrides").read_text("utf-8").splitlines()
    tags = {line.split()[1] for line in lines if not line.startswith("#")}
    assert tags <= {
        # Carried libraries, as their wheels or CPython made them.
        "embedded-library", "library-not-linked-against-libc", "unstripped-binary-or-object",
        "shared-library-lacks-prerequisites",
        # PyInstaller's start program; the texts of the licences of what is carried.
        "hardening-no-pie", "extra-license-file",
    }  # fmt: skip


# -- icons -------------------------------------------------------------------------


@pytest.mark.parametrize("size", icons.SIZES)
def test_icons_are_the_drawing(qapp: object, size: int) -> None:
    kept = QImage(str(PACKAGING / "icons" / f"framedeck-{size}.png"))
    fresh = QImage.fromData(icons.drawn(size))
    assert (kept.width(), kept.height()) == (size, size)
    form = QImage.Format.Format_ARGB32
    shown, wanted = (one.convertToFormat(form).constBits().tobytes() for one in (kept, fresh))
    apart = sum(abs(a - b) > 8 for a, b in zip(shown, wanted, strict=True))
    assert apart < len(shown) / 100, "run packaging/make_icons.py"


def test_the_windows_icon_holds_all_sizes() -> None:
    with Image.open(PACKAGING / "icons" / "framedeck.ico") as icon:
        assert icon.info["sizes"] == {(size, size) for size in icons.ICO_SIZES}


# -- the Debian package ------------------------------------------------------------


def test_the_package_depends_on_what_qt_loads() -> None:
    for name in (system_check.QT, system_check.XCB):
        for packages in system_check.LIBRARIES[name].values():
            assert packages[0] in linux.DEPENDS
    assert {"python3 (>= 3.11)", "python3-venv"} <= set(linux.DEPENDS)


@needs_dpkg
def test_the_same_bundle_gives_the_same_package(bundle: Path, tmp_path: Path) -> None:
    first = linux.debian(bundle, tmp_path / "w1", tmp_path / "1.deb", VERSION, STAMP, quick=True)
    other = copied(bundle, tmp_path / "elsewhere" / "framedeck")
    before = os.umask(0o077)
    try:
        second = linux.debian(
            other, tmp_path / "w2", tmp_path / "2.deb", VERSION, STAMP, quick=True
        )
    finally:
        os.umask(before)
    assert first.read_bytes() == second.read_bytes()


@needs_dpkg
def test_what_the_package_installs(bundle: Path, tmp_path: Path) -> None:
    made = linux.debian(bundle, tmp_path / "w", tmp_path / "a.deb", VERSION, STAMP, quick=True)
    plain = subprocess.run(["dpkg-deb", "--fsys-tarfile", made], capture_output=True, check=True)
    (tmp_path / "a.tar").write_bytes(plain.stdout)
    with tarfile.open(tmp_path / "a.tar") as tar:
        found = {entry.name.removeprefix("./"): entry for entry in tar}
        assert {(entry.uid, entry.gid, entry.mtime) for entry in found.values()} == {(0, 0, STAMP)}
        assert found["usr/bin/framedeck"].linkname == "../lib/framedeck/framedeck"
        assert found["usr/lib/framedeck/framedeck"].mode == 0o755
        assert found["usr/lib/framedeck/_internal/libthing.so"].issym()
        modes = {entry.mode for entry in found.values() if entry.isfile()}
        assert modes == {0o755, 0o644}
        page = tar.extractfile(found["usr/share/man/man1/framedeck.1.gz"])
        assert page is not None
        assert VERSION.encode() in gzip.decompress(page.read())
    for wanted in (
        "usr/share/applications/framedeck.desktop", f"usr/share/metainfo/{linux.METAINFO}",
        "usr/share/mime/packages/framedeck.xml", "usr/share/doc/framedeck/copyright",
        "usr/share/icons/hicolor/scalable/apps/framedeck.svg",
        *(f"usr/share/icons/hicolor/{n}x{n}/apps/framedeck.png" for n in icons.SIZES),
    ):  # fmt: skip
        assert found[wanted].isfile(), wanted
    said = subprocess.run(["dpkg-deb", "-f", made, "Version"], capture_output=True, text=True)
    assert said.stdout.strip() == VERSION


@needs_dpkg
@pytest.mark.parametrize("what", ["remove", "upgrade"])
def test_removal_takes_what_root_compiled_along(bundle: Path, tmp_path: Path, what: str) -> None:
    made = linux.debian(bundle, tmp_path / "w", tmp_path / "a.deb", VERSION, STAMP, quick=True)
    subprocess.run(["dpkg-deb", "-e", made, tmp_path / "control"], check=True)
    script = tmp_path / "control" / "prerm"
    assert os.access(script, os.X_OK)
    kept, gone = tmp_path / "in" / "core" / "a.py", tmp_path / "in" / "core" / "__pycache__"
    for path in (kept, gone / "a.pyc", gone / "deep" / "b.pyc"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    text = script.read_text("utf-8")
    assert text.count("/usr/lib/framedeck") == 1
    script.write_text(text.replace("/usr/lib/framedeck", str(tmp_path / "in")), "utf-8")
    subprocess.run([script, what], check=True)
    assert kept.is_file()
    assert not gone.exists()


# -- the portable files --------------------------------------------------------------


def packed(bundle: Path, into: Path) -> Path:
    into.mkdir()
    updates.pack(bundle, into, VERSION, "linux-x86_64")
    (made,) = into.glob("*.tar.xz")
    return made


def test_the_same_bundle_gives_the_same_archive(bundle: Path, tmp_path: Path) -> None:
    first = packed(bundle, tmp_path / "1")
    second = packed(copied(bundle, tmp_path / "elsewhere" / "framedeck"), tmp_path / "2")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as tar:
        assert {name.partition("/")[0] for name in tar.getnames()} == {"framedeck"}


@pytest.fixture
def portable(bundle: Path, tmp_path: Path) -> Path:
    return linux.portable(packed(bundle, tmp_path / "tar"), tmp_path / "a b.run", VERSION)


def ran(file: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    home.mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    return subprocess.run(
        ["sh", str(file), *words], env=environment, cwd=home, capture_output=True, text=True
    )


def test_the_portable_file_unpacks_once_and_starts(portable: Path, tmp_path: Path) -> None:
    home = tmp_path / "home of one"
    done = ran(portable, home, "--", "--show", "queue")
    assert done.stdout == "started --show queue\n", done.stderr
    program_file = home / ".local" / "lib" / "framedeck" / "framedeck"
    number = program_file.stat().st_ino
    assert ran(portable, home).stdout == "started \n"
    assert program_file.stat().st_ino == number  # The second start unpacked nothing.
    assert sorted(one.name for one in program_file.parents[1].iterdir()) == ["framedeck"]


def test_a_damaged_portable_file_changes_nothing(portable: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    whole = portable.read_bytes()
    assert ran(portable, home, "--check").returncode == 0
    for bad in (whole[:-9], whole[:-9] + b"123456789", whole + b"x"):
        portable.write_bytes(bad)
        for words in (["--check"], ["--no-start"]):
            done = ran(portable, home, *words)
            assert done.returncode == 1
            assert "damaged" in done.stderr
        assert list(home.iterdir()) == []


def test_without_xz_it_says_so(portable: Path, tmp_path: Path) -> None:
    """A small Debian has no xz; that is no full disk."""
    home, few = tmp_path / "home", tmp_path / "few"
    home.mkdir()
    few.mkdir()
    for name in ("sh", "cat", "tail", "sha256sum", "cut", "pwd", "ls", "mkdir", "tar", "rm"):
        found = shutil.which(name)
        if found is not None:
            (few / name).symlink_to(found)
    done = subprocess.run(
        [few / "sh", portable, "--no-start"], env={"PATH": str(few), "HOME": str(home)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "xz-utils" in done.stderr
    assert list(home.iterdir()) == []


def test_a_folder_of_others_is_left_alone(portable: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "mine").mkdir(parents=True)
    (home / "mine" / "letter.txt").write_text("dear")
    done = ran(portable, home, "--target", "mine", "--no-start")
    assert done.returncode == 1
    assert "something else" in done.stderr
    ran(portable, home, "--target", "mine", "--remove")
    assert [one.name for one in (home / "mine").iterdir()] == ["letter.txt"]


def test_a_newer_one_takes_the_place_of_an_older_one(
    portable: Path, bundle: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert ran(portable, home, "--no-start").returncode == 0
    (bundle / "framedeck").write_text("#!/bin/sh\necho newer\n")
    load(PACKAGING / "file_list.py").write_list(bundle, VERSION)
    newer = linux.portable(packed(bundle, tmp_path / "tar2"), tmp_path / "b.run", "9.9.9")
    assert ran(newer, home).stdout == "newer\n"
    assert [one.name for one in (home / ".local" / "lib").iterdir()] == ["framedeck"]


def test_the_menu_entry_comes_and_goes(portable: Path, tmp_path: Path) -> None:
    home = tmp_path / 'a "home" $of `50%` \\one'
    assert ran(portable, home, "--desktop", "--no-start").returncode == 0
    entry = home / ".local" / "share" / "applications" / "framedeck.desktop"
    found = configparser.ConfigParser(interpolation=None)
    found.read(entry, encoding="utf-8")
    if shutil.which("desktop-file-validate"):
        subprocess.run(["desktop-file-validate", entry], check=True)
    from app.launchers import quoted

    start = home / ".local" / "lib" / "framedeck" / "framedeck"
    assert found["Desktop Entry"]["Exec"] == f"{quoted(str(start))} %F"
    assert ran(portable, home, "--remove").returncode == 0
    assert [one for one in home.rglob("*") if one.is_file()] == []


def test_a_file_that_was_changed_added_or_taken_is_seen(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    """What check_linux.py calls "as it was": kinds, links and contents, not names alone."""
    clean = scripts["clean_debian"]
    system = clean.Debian(tmp_path / "base", tmp_path, ":0")
    for name in ("etc/kept", "etc/changed", "etc/taken", "home/person/own", "var/log/passing"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "etc/link").symlink_to("kept")
    before = system.files()
    assert clean.unlike(before, system.files()) == []
    (tmp_path / "etc/changed").write_text("otherwise")
    (tmp_path / "etc/taken").unlink()
    (tmp_path / "usr/share/empty").mkdir(parents=True)
    (tmp_path / "etc/link").unlink()
    (tmp_path / "etc/link").symlink_to("changed")
    (tmp_path / "home/person/own").unlink()
    (tmp_path / "var/log/passing").write_text("more")
    found = [line.partition(":")[0] for line in clean.unlike(before, system.files())]
    assert found == [
        "etc/changed", "etc/link", "etc/taken", "usr", "usr/share", "usr/share/empty",
    ]  # fmt: skip
