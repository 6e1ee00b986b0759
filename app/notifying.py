"""News of the queue on every channel that a person chose, each in its own time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import shiboken6
from PySide6.QtCore import QObject, QTimer
from PySide6.QtWidgets import QApplication

from app.controller import Controller
from app.window import MainWindow
from core.errors import Category, Problem, ProblemError, problem_from
from core.notify.news import Channel, Choices, Kind, Message, News, message_of
from core.notify.outbox import Outbox

if TYPE_CHECKING:
    from core.notify.channels import Target
    from core.scheduling.alerts import Alert
    from widgets.notifying import NewsDialog

_log = logging.getLogger(__name__)
REMOTE = (Channel.WEBHOOK, Channel.NTFY)
TITLES = {Channel.WEBHOOK: "The webhook", Channel.NTFY: "ntfy"}


class NewsDesk(QObject):
    """Takes news, and tells them by desktop, sound, webhook and ntfy as a person wants.

    Args:
        controller: Runs what takes time, and has the vault.
        window: Holds the choices, the notices and the menu's dialog.
        on_desktop: Shows a message of the system's.
        parent: Owner.

    Attributes:
        play: Makes a short sound, another one for bad news; for tests to replace.
        waits: Pauses between the tries of one message.
        outboxes: What waits, by channel.
    """

    def __init__(
        self,
        controller: Controller,
        window: MainWindow,
        on_desktop: Callable[[Message], None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self._notice = window.panels.notice
        self._on_desktop = on_desktop
        self.play: Callable[[bool], None] = self._play
        self.waits: tuple[float, ...] | None = None
        self.outboxes = {channel: Outbox() for channel in Channel}
        self._sending: set[Channel] = set()
        self._silent: set[Channel] = set()
        """Channels whose failure was told and that have not worked since."""
        self._stop = threading.Event()
        self._later = QTimer(self, singleShot=True)
        self._later.timeout.connect(self._pump)
        controller.closing.connect(self._end)

    @property
    def choices(self) -> Choices:
        """What is told where, beside the desktop's own."""
        return Choices.from_json(self._window.settings.news)

    # -- telling ------------------------------------------------------------------

    def tell(self, news: News) -> None:
        """Tell news on every channel that is on and wants them."""
        choices = self.choices
        for channel, outbox in self.outboxes.items():
            if channel is Channel.DESKTOP:
                wanted = news.kind.value in self._window.settings.notify
            else:
                wanted = choices.wants(channel, news.kind)
            if wanted:
                outbox.add(news)
        self._pump()

    def on_alert(self, alert: Alert) -> None:
        """Tell of an alert that was raised or cleared."""
        about = f"{alert.alarm} {alert.about}"
        words = alert.words
        self.tell(News(Kind.ALERT, "", words, words, about, alert.cleared, bad=not alert.cleared))

    def _pump(self) -> None:
        if self._stop.is_set():
            return
        waits = []
        for channel, outbox in self.outboxes.items():
            if channel in self._sending:
                continue
            while news := outbox.take():
                self._give(channel, news)
                if channel in self._sending:
                    break
            wait = outbox.wait_seconds()
            if wait is not None and channel not in self._sending:
                waits.append(wait)
        if waits:
            self._later.start(int(min(waits) * 1000) + 50)

    def _give(self, channel: Channel, news: list[News]) -> None:
        local = channel not in REMOTE
        message = message_of(news, titles=local or self.choices.titles)
        if channel is Channel.DESKTOP:
            self._on_desktop(message)
        elif channel is Channel.SOUND:
            self.play(message.bad)
        else:
            self._send(channel, message)

    def _send(self, channel: Channel, message: Message) -> None:
        self._sending.add(channel)
        vault, stop, waits, at = self._controller.vault, self._stop, self.waits, time.time()

        def source() -> Iterator[object]:
            from core.notify.channels import WAITS_SECONDS, deliver

            target = target_of(vault.get, channel)
            if not target.address:
                yield _unknown(channel, vault.why)
                return
            try:
                deliver(
                    channel,
                    message,
                    target,
                    at,
                    wait=lambda seconds: not stop.wait(seconds),
                    stopped=stop.is_set,
                    waits=WAITS_SECONDS if waits is None else waits,
                )
            except Exception as error:  # noqa: BLE001 - told by the one who receives
                yield problem_from(error)
            else:
                yield None

        self._controller.run_aside(source, f"news {channel}", partial(self._on_sent, channel))

    def _on_sent(self, channel: Channel, problem: object) -> None:
        self._sending.discard(channel)
        if isinstance(problem, Problem):
            self._tell_failure(channel, problem)
        elif channel in self._silent:
            self._silent.discard(channel)
            self._notice.clear(f"news {channel}")
            _log.info("%s takes news again", TITLES[channel])
        self._pump()

    def _tell_failure(self, channel: Channel, problem: Problem) -> None:
        """Say once that a channel does not work, until it has worked again."""
        if channel in self._silent or self._stop.is_set():
            return
        self._silent.add(channel)
        _log.warning("news are not told by %s: %s", TITLES[channel], problem.message)
        change = ("Change…", lambda: self.ask())
        self._notice.show_problem(problem, (change,), key=f"news {channel}")

    def _end(self) -> None:
        self._stop.set()
        self._later.stop()

    def _play(self, bad: bool) -> None:
        def source() -> Iterator[object]:
            from core.notify.sound import play

            yield play(bad=bad)

        def beep(played: object) -> None:
            if not played:
                QApplication.beep()

        self._controller.run_aside(source, "sound", beep)

    # -- the dialog -----------------------------------------------------------------

    def ask(self) -> NewsDialog:
        """Open the dialog; addresses and tokens are read beside the window."""
        from widgets.notifying import NewsDialog

        window, vault = self._window, self._controller.vault
        dialog = NewsDialog(self.choices, window.settings.notify, window)
        dialog.chosen.connect(self._take)
        dialog.test_wanted.connect(lambda channel, given: self._test(dialog, channel, given))

        def read() -> Iterator[object]:
            kept = vault.keeps()
            found = {channel: target_of(vault.get, channel) for channel in REMOTE}
            yield found, vault.why if not kept or vault.why else ""

        def show(found: Any) -> None:
            if shiboken6.isValid(dialog):
                dialog.show_secrets(*found)

        dialog.open()
        self._controller.run_aside(read, "news secrets", show)
        return dialog

    def _take(
        self, choices: Choices, desktop: list[str], targets: Mapping[Channel, Target]
    ) -> None:
        self._window.keep(news=choices.to_json(), notify=desktop)
        self._silent.clear()
        for channel in REMOTE:
            self._notice.clear(f"news {channel}")
        vault = self._controller.vault

        def keep() -> Iterator[object]:
            kept = [
                vault.put(name, secret)
                for channel, target in targets.items()
                for name, secret in zip(
                    names_of(channel), (target.address, target.token), strict=True
                )
                if secret or vault.get(name)
            ]
            yield "" if all(kept) else vault.why

        def told(why: object) -> None:
            if why:
                self._notice.show_text(
                    f"{why} What you entered is kept until Framedeck ends, and in no file.",
                    kind="warning",
                    key="news kept",
                )

        self._controller.run_aside(keep, "keep news", told)

    def _test(self, dialog: NewsDialog, channel: Channel, target: Target) -> None:
        """Send one message as it is in the dialog, and show there what came back."""
        if channel not in REMOTE:
            self.play(False)
            return
        stop = self._stop

        def source() -> Iterator[object]:
            from core.notify.channels import send

            words = "This is how Framedeck tells news."
            message = Message(Kind.EMPTY, "A test", words)
            try:
                answer = send(channel, message, target, time.time(), stopped=stop.is_set)
                yield f"Taken: {answer}", True
            except ProblemError as error:
                said = error.problem.details
                words = f"{error.problem.message} {error.problem.hint}"
                yield words + (f" It said: {said}" if said else ""), False

        def show(found: Any) -> None:
            if shiboken6.isValid(dialog):
                dialog.show_answer(channel, *found)

        self._controller.run_aside(source, f"test {channel}", show)


def names_of(channel: Channel) -> tuple[str, str]:
    """Return under which names the vault has a channel's address and token."""
    return f"{channel} address", f"{channel} token"


def target_of(get: Callable[[str], str], channel: Channel) -> Target:
    """Return where a channel sends to, from the vault; not in the window's thread."""
    from core.notify.channels import Target

    address, token = (get(name) for name in names_of(channel))
    return Target(address, token)


def _unknown(channel: Channel, why: str) -> Problem:
    return Problem(
        Category.INVALID_PARAMS,
        f"{TITLES[channel]} is on, and its address is not known any more. {why}".rstrip(),
        "Enter it again, or switch this channel off.",
    )
