"""Pictures for the form: read small in a pump, refused with a reason, pasted ones kept."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG

from PySide6.QtCore import QBuffer, QIODevice, QObject, QSize, QTimer
from PySide6.QtGui import QImage, QImageReader

from app.controller import Controller
from core.errors import Problem, ProblemError, invalid, problem_from
from core.picture_files import HEAD_BYTES, MOST_BYTES, kind_of
from widgets.compose import ComposePanel

MOST_PIXELS = 64_000_000
THUMBNAIL = QSize(640, 360)

QUIET_MS = 60_000
"""How long after the start, and after each look while a job runs, pasted pictures are tidied."""
KEPT_SECONDS = 24 * 3_600.0
"""A pasted picture that nothing speaks of stays this long."""

_log = logging.getLogger(__name__)
_KEPT = re.compile(r"pasted-[0-9a-f]{12}\.png")
_HALF = re.compile(rf"\.{_KEPT.pattern}\.\d+\.part")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture read for the form.

    Attributes:
        image: At most as large as a thumbnail; null for a file that is no picture.
        width: Of the picture in its file, pixels.
        height: Of the picture in its file, pixels.
        words: How large it is.
    """

    image: QImage
    width: int
    height: int
    words: str


def read_picture(path: str, field: str = "image") -> Picture:
    """Read a picture small; call it in a pump.

    What it declares is looked at before anything is decoded.

    Raises:
        ProblemError: It is none, damaged or too large; the problem names `field`.
    """
    name = Path(path).name
    _, head = _looked_at(path, field)
    reader = QImageReader(path, _format(head, name, field))
    reader.setAutoTransform(True)
    whole = reader.size()
    if not whole.isValid():
        raise _damaged(field, name, reader)
    if whole.width() * whole.height() > MOST_PIXELS:
        raise invalid(
            field,
            f"{name} is {whole.width():,} × {whole.height():,} pixels large.",
            f"Make it smaller: {MOST_PIXELS // 10**6} million pixels are the most.",
        )
    if whole.width() > THUMBNAIL.width() or whole.height() > THUMBNAIL.height():
        # Enlarged by as much as an upright picture may lie on its side in the file.
        from PySide6.QtCore import Qt

        box = QSize(THUMBNAIL.width(), THUMBNAIL.width())
        reader.setScaledSize(whole.scaled(box, Qt.AspectRatioMode.KeepAspectRatio))
    image = reader.read()
    if image.isNull():
        raise _damaged(field, name, reader)
    turned = (image.width() > image.height()) != (whole.width() > whole.height())
    if turned:
        whole.transpose()
    return Picture(image, whole.width(), whole.height(), f"{whole.width()} × {whole.height()}")


def read_file(path: str, field: str, suffixes: Sequence[str]) -> Picture:
    """Look at a file that is no picture; call it in a pump.

    Raises:
        ProblemError: It is not there, empty, too large or of another kind.
    """
    name = Path(path).name
    if not name.lower().endswith(tuple(suffixes)):
        kinds = ", ".join(suffixes)
        raise invalid(field, f"{name} cannot be used here.", f"Choose a file of these: {kinds}.")
    size, head = _looked_at(path, field)
    if not head:
        raise invalid(field, f"{name} is empty.", "Choose another copy of it.")
    return Picture(QImage(), 0, 0, f"{size / 1e6:,.1f} MB")


def _looked_at(path: str, field: str) -> tuple[int, bytes]:
    """Return the size of a file and its first bytes."""
    name = Path(path).name
    try:
        size = Path(path).stat().st_size
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        words = error.strerror or str(error)
        raise invalid(
            field, f"{name} cannot be read: {words}.", "Choose a file that is there."
        ) from None
    if size > MOST_BYTES:
        raise invalid(
            field,
            f"{name} has {size / 2**20:,.0f} MB, and {MOST_BYTES // 2**20} are the most.",
            "Servers take no larger one; save it smaller.",
        )
    return size, head


def _format(head: bytes, name: str, field: str) -> bytes:
    if kind := kind_of(head):
        return kind.encode()
    raise invalid(
        field, f"{name} is no picture.", "Choose a PNG, JPEG, WebP, GIF, BMP or TIFF file."
    )


def _damaged(field: str, name: str, reader: QImageReader) -> ProblemError:
    told = reader.errorString().rstrip(".")
    return invalid(
        field, f"{name} is damaged and cannot be read: {told}.", "Choose another copy of it."
    )


def keep_picture(folder: Path, image: QImage) -> Path:
    """Write a picture that is in no file into `folder`, and return its path.

    The same picture gets the same name. Call it in a pump.

    Raises:
        OSError: The folder is not writable or the disk is full.
    """
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    if not image.save(buffer, "PNG"):  # type: ignore[call-overload]
        raise invalid("image", "The picture cannot be kept.", "Save it to a file and choose that.")
    data = buffer.data().data()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"pasted-{blake2b(data, digest_size=6).hexdigest()}.png"
    part = folder / f".{path.name}.{os.getpid()}.part"
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def tidy(folder: Path, ledger: Path, held: str, older_than: float) -> int:
    """Remove pasted pictures that nobody needs any more; call it in a pump.

    Args:
        folder: Where `keep_picture` puts them; nothing else in it is touched.
        ledger: The ledger, open already. What any of its jobs speaks of stays: one that
            waits runs with it, one that ended can be retried or made again.
        held: All that forms hold, as text.
        older_than: Unix time; younger pictures stay whatever is known of them.

    Returns:
        How many were removed.

    Raises:
        ProblemError: The ledger cannot be read; nothing was removed then.
    """
    from core.ledger.mentions import jobs_with

    old = [path for path in folder.glob("*pasted-*") if _is_old(path, older_than)]
    if not old:
        return 0
    needed = set(_KEPT.findall(held))
    for job in jobs_with(ledger, "pasted-"):
        needed.update(_KEPT.findall(job))
    gone = 0
    for path in old:
        # Once more: the same picture may have been pasted again meanwhile.
        if path.name not in needed and _is_old(path, older_than):
            with suppress(OSError):
                path.unlink()
                gone += 1
    return gone


def _is_old(path: Path, older_than: float) -> bool:
    if not (_KEPT.fullmatch(path.name) or _HALF.fullmatch(path.name)):
        return False
    try:
        found = path.lstat()
    except OSError:
        return False
    return S_ISREG(found.st_mode) and found.st_mtime < older_than


class PictureDesk(QObject):
    """Reads what picture fields of the form ask for, keeps what is pasted, and tidies that."""

    def __init__(
        self, controller: Controller, compose: ComposePanel, folder: Path, parent: QObject
    ) -> None:
        """Keep pasted pictures in `folder`."""
        super().__init__(parent)
        self._controller, self._compose, self._folder = controller, compose, folder
        compose.picture_wanted.connect(self._on_wanted)
        compose.picture_pasted.connect(self.paste)
        for field in compose.picture_fields().values():
            field.ask_again()  # The form was filled before anybody listened.
        self._quiet = QTimer(self, singleShot=True, interval=QUIET_MS)
        self._quiet.timeout.connect(self._on_quiet)
        self._quiet.start()

    def _on_quiet(self) -> None:
        """Tidy once, when no job runs."""
        controller = self._controller
        if controller.running is not None:
            self._quiet.start()
            return
        if controller.ledger.opened_with is not None:
            return  # The jobs of the old ledger may come back, and need theirs.
        ledger, folder = controller.ledger.store.path, self._folder
        held = f"{self._compose.state()} {self._compose.values()}"

        def work() -> Iterator[object]:
            yield tidy(folder, ledger, held, time.time() - KEPT_SECONDS)

        controller.run_aside(work, "tidy", lambda gone: _log.info("%s pictures tidied", gone))

    def paste(self, name: str, image: QImage) -> None:
        """Put a picture that is in no file into the field `name`."""

        def keep() -> Iterator[object]:
            yield keep_picture(self._folder, image)

        def show(path: object) -> None:
            self._compose.set_value(name, str(path))

        self._controller.run_aside(keep, "paste", show)

    def _on_wanted(self, name: str, path: str) -> None:
        field = self._compose.picture_fields()[name]
        suffixes = field.parameter.choices

        def read() -> Iterator[object]:
            try:
                yield read_file(path, name, suffixes) if suffixes else read_picture(path, name)
            except ProblemError as error:
                yield error.problem
            except Exception as error:  # noqa: BLE001 - a reader's fault is the picture's
                yield problem_from(error)

        self._controller.run_aside(read, "picture", lambda found: self._show(name, path, found))

    def _show(self, name: str, path: str, found: object) -> None:
        field = self._compose.picture_fields().get(name)
        if field is None:
            return
        if isinstance(found, Picture):
            field.show_picture(path, found.image, found.words)
        elif isinstance(found, Problem):
            field.show_bad(path, found)
