"""The one bar in which problems and news reach a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from core.errors import Category, Problem
from widgets import theme
from widgets.notice_details import NoticeDetails
from widgets.parts import Button, IconButton, label, set_tone

if TYPE_CHECKING:
    from core.failures.recovery import Action as Doing

Action = tuple[str, Callable[[], object]]
MOST = 24
"""So many notices are kept; beyond, the oldest of the quietest go."""
_LOUD = ("warning", "danger")


@dataclass(frozen=True, slots=True)
class _Notice:
    key: str
    text: str
    details: str
    tone: str
    actions: tuple[Action, ...]
    problem: Problem | None = None
    job: str = ""
    holds_for: Mapping[str, str] = field(default_factory=dict)
    """Ids of the jobs it is about, and the state in which each was when that was told."""
    many: Callable[[int], str] | None = None
    merged: int = 1

    @property
    def words(self) -> str:
        """What is shown."""
        count = len(self.holds_for)
        return self.many(count) if self.many and self.merged > 1 and count > 1 else self.text


class NoticeBar(QFrame):
    """Shows the newest notice; closing it shows the one before, then hides.

    A notice replaces an older one of the same key, so that a problem that
    comes again does not pile up. One that is about jobs goes by itself when
    none of them is as it was then: retried, removed, running or done.

    Attributes:
        can: Says whether the window can do an action for a job ("" for none) now.
        states_of: Returns the states of jobs by their ids; those that are gone left out.

    Signals:
        chosen: The core.failures.recovery.Action that a person wants done, and the id of
            the job that it is about, "" for none.
        help_wanted: Heading in the guide that says more.
    """

    chosen = Signal(object, str)
    help_wanted = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.can: Callable[[Doing, str], bool] = lambda _action, _job: False
        self.states_of: Callable[[Sequence[str]], Mapping[str, str]] = lambda _ids: {}
        self.details = NoticeDetails()
        self.details.chosen.connect(lambda a: self.chosen.emit(a, self._notices[-1].job))
        self.details.help_wanted.connect(self.help_wanted)
        self._notices: list[_Notice] = []
        self._buttons: list[QWidget] = []
        self.setProperty("role", "notice")
        self.setAccessibleName("Notice")
        self._icon = QLabel()
        self._icon.setFixedSize(16, 16)
        self._text = label("", "")
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._more = label("", "small")
        self._close = IconButton("close", "Close notice", "Close (Esc)")
        self._close.clicked.connect(self.dismiss)
        self._row = QHBoxLayout()
        self._row.setSpacing(8)
        for widget in (self._icon, self._text):
            self._row.addWidget(widget)
        self._row.addStretch(1)
        self._row.addWidget(self._more)
        self._row.addWidget(self._close)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 3, 8, 3)
        column.setSpacing(5)
        column.addLayout(self._row)
        column.addWidget(self.details)
        self.hide()

    def show_problem(
        self,
        problem: Problem,
        actions: Sequence[Action] = (),
        key: str | None = None,
        job: str = "",
        jobs: Sequence[str] = (),
    ) -> None:
        """Show `problem` with its hint; `actions` become links behind it.

        Args:
            problem: What is wrong.
            actions: Links.
            key: An older notice of the same key goes; None: one with the same problem.
            job: Id of the job that failed with it, "" when it is of none.
            jobs: Ids of the jobs it is about, where that is not `job` alone.
        """
        tone = "warning" if problem.category is Category.INVALID_PARAMS else "danger"
        key = key or f"{problem.category}:{problem.field or problem.message}"
        text = f"{problem.message} {problem.hint}".strip()
        made = _Notice(key, text, problem.details, tone, tuple(actions), problem, job)
        about = jobs or ((job,) if job else ())
        self._put(made, about, many=lambda count: f"{count} jobs: {text}")

    def show_text(
        self,
        text: str,
        actions: Sequence[Action] = (),
        kind: str = "info",
        key: str | None = None,
        *,
        under: bool = False,
        jobs: Sequence[str] = (),
        many: Callable[[int], str] | None = None,
    ) -> None:
        """Show news; `kind` is "info", "success", "warning" or "danger".

        Args:
            text: The words.
            actions: Links behind them.
            kind: How loud.
            key: An older notice of the same key goes.
            under: Whether it stands behind a warning that is shown, and comes up after it.
            jobs: Ids of the jobs it is about; it goes when none is as it is now.
            many: Says it of so many jobs; where it is given, notices of one key come together.
        """
        self._put(
            _Notice(key or text, text, "", kind, tuple(actions)), jobs, many=many, under=under
        )

    def text(self) -> str:
        """Return the words shown now, "" when there is nothing to say."""
        return self._notices[-1].words if self._notices else ""

    def jobs(self) -> list[str]:
        """Return the ids of the jobs that the notice shown now is about."""
        return list(self._notices[-1].holds_for) if self._notices else []

    def settle(self) -> None:
        """Let go what is no longer so of the jobs it is about."""
        ids = sorted({job_id for notice in self._notices for job_id in notice.holds_for})
        if not ids:
            return
        states, before = self.states_of(ids), self._notices
        kept = []
        for notice in before:
            if not notice.holds_for:
                kept.append(notice)
                continue
            same = {k: state for k, state in notice.holds_for.items() if states.get(k) == state}
            if len(same) == len(notice.holds_for):
                kept.append(notice)
            elif same:
                kept.append(replace(notice, holds_for=same))
        if kept != before:
            self._notices = kept
            self._render()

    def holds(self, key: str) -> bool:
        """Say whether the notice of `key` is shown, or waits below a newer one."""
        return any(notice.key == key for notice in self._notices)

    def clear(self, key: str | None = None) -> None:
        """Forget the notice of `key`, or all of them."""
        self._notices = [n for n in self._notices if key is not None and n.key != key]
        self._render()

    def dismiss(self) -> None:
        """Close the notice that is shown."""
        if self._notices:
            self._notices.pop()
        self._render()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Close on Escape."""
        if event.key() == Qt.Key.Key_Escape:
            self.dismiss()
        else:
            super().keyPressEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        """Redraw the icon when the theme changes."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._draw_icon()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Wrap the text once it no longer fits on one line."""
        super().resizeEvent(event)
        self._wrap()
        if not self.details.isHidden():
            self.details.fit()

    def _put(
        self,
        notice: _Notice,
        jobs: Sequence[str] = (),
        *,
        many: Callable[[int], str] | None = None,
        under: bool = False,
    ) -> None:
        old = next((one for one in self._notices if one.key == notice.key), None)
        if jobs:
            about, merged = dict(self.states_of(jobs)), 1
            if many and old is not None and old.holds_for.keys() - about.keys():
                about, merged = {**old.holds_for, **about}, old.merged + 1
            notice = replace(notice, holds_for=about, many=many, merged=merged)
        self._notices = [n for n in self._notices if n.key != notice.key]
        loud = bool(self._notices) and self._notices[-1].tone in _LOUD
        self._notices.insert(len(self._notices) - (under and loud), notice)
        if len(self._notices) > MOST:
            quiet = (n for n in self._notices[:-1] if n.tone not in _LOUD)
            self._notices.remove(next(quiet, self._notices[0]))
        self._render()

    def _render(self) -> None:
        for button in self._buttons:
            self._row.removeWidget(button)
            button.hide()
            button.deleteLater()
        self._buttons = []
        self.details.hide()
        if not self._notices:
            self.hide()
            return
        notice = self._notices[-1]
        set_tone(self, notice.tone)
        self._text.setText(notice.words)
        self._text.setAccessibleName(notice.words)
        self._draw_icon()
        for title, do in notice.actions:
            self._add_button(title, do)
        if notice.details or notice.problem is not None:
            self._add_button("Details", self._toggle_details)
        if notice.details:
            self._add_button(
                "Copy",
                lambda: QGuiApplication.clipboard().setText(f"{notice.words}\n\n{notice.details}"),
            )
        older = len(self._notices) - 1
        self._more.setText(f"{older} more" if older else "")
        self._more.setVisible(bool(older))
        self.show()
        self._wrap()

    def _add_button(self, title: str, do: Callable[[], object]) -> None:
        button = Button(title, "link")
        button.clicked.connect(lambda: do())
        self._row.insertWidget(2 + len(self._buttons), button)
        self._buttons.append(button)

    def _toggle_details(self) -> None:
        if not self.details.isHidden():
            self.details.hide()
            return
        notice = self._notices[-1]
        self.details.fill(
            notice.problem,
            notice.details,
            lambda action: self.can(action, notice.job),
            of_job=bool(notice.job),
            has_retry=bool(notice.actions),
        )
        for first, second in pairwise([*self._buttons, self._close]):
            QWidget.setTabOrder(first, second)
        self.details.chain(self._close)

    def _draw_icon(self) -> None:
        if not self._notices:
            return
        tone = self._notices[-1].tone
        name = "warning" if tone in ("warning", "danger") else "info"
        ratio = self.devicePixelRatioF()
        pixmap = theme.picture(name, theme.of(self).tone(tone), round(16 * ratio))
        pixmap.setDevicePixelRatio(ratio)
        self._icon.setPixmap(pixmap)

    def _wrap(self) -> None:
        others = [self._icon, self._close, *self._buttons]
        if not self._more.isHidden():
            others.append(self._more)
        room = self.width() - sum(w.sizeHint().width() + 8 for w in others) - 40
        wrap = self._text.fontMetrics().horizontalAdvance(self._text.text()) > room
        self._text.setWordWrap(wrap)
        self._row.setStretch(1, 100 if wrap else 0)

    def minimumSizeHint(self) -> QSize:
        """Let the window be narrow; the text wraps."""
        return QSize(200, super().minimumSizeHint().height())
