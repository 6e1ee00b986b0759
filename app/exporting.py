"""Saving a clip elsewhere: as it is, or in another format by a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QFileDialog

from app.controller import Controller
from app.window import MainWindow
from core import formats
from core.errors import Category, Problem

PICTURES = (".png", ".jpeg", ".webp", ".gif")
_TELL_THEMSELVES = (".mp4", ".webm", ".mov")
_PATIENCE_SECONDS = 5.0


class ExportDesk(QObject):
    """Answers "Save as…": asks where and as what, and does it beside the window.

    Args:
        controller: Runs side tasks.
        window: Holds the dialog and the notices.
    """

    def __init__(self, controller: Controller, window: MainWindow) -> None:
        super().__init__(window)
        self._controller, self._window = controller, window
        self._children: dict[str, subprocess.Popen[str]] = {}
        controller.closing.connect(self._on_closing)

    def ask(self, path: str) -> None:
        """Ask where a clip is to go, and bring it there."""
        source = Path(path)
        kinds = offers(source)
        target, chosen = QFileDialog.getSaveFileName(
            self._window, "Save clip as", str(Path.home() / source.name), ";;".join(kinds)
        )
        if target:
            wanted, format_name = wished(Path(target), kinds.get(chosen), source)
            if wanted != Path(target) and wanted.exists():
                # The dialog asked about the name that was typed, not about this one.
                self._window.panels.notice.show_problem(_taken(wanted), key=f"export {wanted}")
                return
            self.save(source, wanted, format_name)

    def save(self, source: Path, target: Path, format_name: str | None) -> None:
        """Save a clip: as it is where no format is given, else as an export of it.

        A file of that name is replaced.
        """
        key = f"export {target}"
        if key in self._children:
            return
        text = f"Saving {target.name}…"
        stop = (("Stop", lambda: self.stop(key)),) if format_name else ()
        self._window.panels.notice.show_text(text, stop, key=key)

        def copy() -> Iterator[object]:
            yield _copied(source, target)

        def make() -> Iterator[object]:
            yield from self._exported(key, source, target, str(format_name))

        self._controller.run_aside(
            make if format_name else copy,
            f"save {target.name[:40]}",
            lambda told: self._on_told(key, target, told),
        )

    def stop(self, key: str) -> None:
        """Stop an export; nothing of it is left."""
        child = self._children.get(key)
        if child is not None and child.stdin is not None:
            child.stdin.close()

    def _on_closing(self) -> None:
        for key in list(self._children):
            self.stop(key)

    def _exported(self, key: str, source: Path, target: Path, format_name: str) -> Iterator[object]:
        """Run the export; yields its share done, then a Problem, or None for done or stopped."""
        from core.consoles import no_console
        from core.engine_env.problems import none_active
        from core.engines.local.process import CODE_ROOT, worker_environment

        interpreter = self._controller.engine.local.interpreter
        if not interpreter:
            yield none_active().problem
            return
        child = subprocess.Popen(
            [
                interpreter, "-m", "app.export_cli", "--progress", "--force",
                "--format", format_name, "--out", str(target), "--", str(source),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=CODE_ROOT, env=worker_environment(), text=True, encoding="utf-8", **no_console(),
        )  # fmt: skip
        self._children[key] = child
        told: object = _died(target)
        try:
            assert child.stdout is not None
            for line in child.stdout:
                said = json.loads(line)
                if "share" in said:
                    yield float(said["share"]), str(said["phase"])
                elif "problem" in said:
                    told = Problem.from_json(said["problem"])
                else:
                    told = str(said["path"])
            code = child.wait(_PATIENCE_SECONDS)
        except (ValueError, KeyError, subprocess.TimeoutExpired):
            child.kill()
            code = child.wait()
        finally:
            del self._children[key]
            for pipe in (child.stdin, child.stdout):
                if pipe is not None and not pipe.closed:
                    pipe.close()
        stopped = code == 130
        yield None if stopped else told

    def _on_told(self, key: str, target: Path, told: object) -> None:
        notice = self._window.panels.notice
        match told:
            case (share, phase):
                words = "checked" if phase == "verify" else "done"
                text = f"Saving {target.name}: {share:.0%} {words}"
                notice.show_text(text, (("Stop", lambda: self.stop(key)),), key=key)
            case Problem():
                opens = ("Set up engine…", self._window.menus.set_up_engine.trigger)
                notice.show_problem(told, (opens,) if told.field == "engine" else (), key=key)
            case None:
                notice.show_text(f"Stopped: {target.name} was not saved.", key=key)
            case _:
                notice.show_text(f"Saved {told}.", (), "success", key)


def offers(source: Path) -> dict[str, str | None]:
    """Return what a clip can be saved as, as a file dialog wants it, with the format of each.

    The first, which has none, is the clip as it is.
    """
    kinds: dict[str, str | None] = {save_filter(source): None}
    if source.suffix.lower() in (".png", ".jpeg"):
        return kinds
    for name, title in formats.TITLES.items():
        kinds[f"{title} (*{formats.ending(name)})"] = name
    return kinds


def wished(target: Path, format_name: str | None, source: Path) -> tuple[Path, str | None]:
    """Return where and as what: a name that a person typed with another ending says more."""
    typed = target.suffix.lower()
    if format_name is None and typed not in ("", source.suffix.lower()):
        found = (name for name in formats.NAMES if formats.ending(name) == typed)
        format_name = next(found, None)
    ending = source.suffix if format_name is None else formats.ending(format_name)
    if typed == ending.lower():
        return target, format_name
    known = {formats.ending(name) for name in formats.NAMES} | {source.suffix.lower()}
    if typed in known:
        return target.with_suffix(ending), format_name
    return Path(f"{target}{ending}"), format_name


def save_filter(source: Path) -> str:
    """Return the kind of a file as a file dialog wants it, such as "MP4 video (*.mp4)"."""
    if source.suffix == formats.SEQUENCE:
        return f"Folder of pictures (*{formats.SEQUENCE})"
    noun = "picture" if source.suffix.lower() in PICTURES else "video"
    return f"{source.suffix[1:].upper()} {noun} (*{source.suffix})"


def _copied(source: Path, target: Path) -> object:
    """Copy a clip; returns its path, or the Problem."""
    from core.outputs.beside import free_name, recipe_file
    from core.outputs.publish import storage_problem

    if target.exists() and target.samefile(source):
        return str(target)
    if target.is_dir():
        return _taken(target)
    # Other formats than these carry their recipe, and some their rate, beside them alone.
    told = None if source.suffix.lower() in _TELL_THEMSELVES else recipe_file(source)
    beside = (recipe_file(target) if target.is_file() else None) or free_name(target)
    part = target.with_name(f".{target.name}.part")
    try:
        if source.is_dir():
            shutil.copytree(source, part)
            part.rename(target)
        else:
            shutil.copyfile(source, part)
            part.replace(target)
        if told is not None:
            shutil.copyfile(told, beside)
    except OSError as error:
        return storage_problem(error, target, "saving a clip").problem
    finally:
        with suppress(OSError):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
    return str(target)


def _taken(target: Path) -> Problem:
    return Problem(
        Category.INVALID_PARAMS,
        f"There is a {target.name} in {target.parent} already.",
        "Choose another name.",
        field="out",
    )


def _died(target: Path) -> Problem:
    return Problem(
        Category.UNKNOWN,
        f"{target.name} was not saved: the process that makes it ended.",
        "Try again, or run `framedeck export` in a terminal to see more.",
    )
