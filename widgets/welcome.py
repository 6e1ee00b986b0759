"""The welcome in the place of the stage: what was found here, and what of it to use."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent, QShowEvent
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from core.first_look.found import Found, Looked, Sort
from widgets.parts import Button, Card, ElidedLabel, label

_TITLES = {
    Sort.GPU: "Graphics card",
    Sort.ENGINE: "Engine",
    Sort.COMFY: "ComfyUI",
    Sort.MODELS: "Models",
    Sort.LLM: "Language models",
}
_WIDEST = 700


class _Section(Card):
    """One kind of thing: what was found of it, or that there is none."""

    def __init__(self, sort: Sort) -> None:
        super().__init__(margins=(12, 7, 12, 8))
        self.setAccessibleName(_TITLES[sort])
        self._told = label("Looking…", "muted", wrap=True)
        self.column.setSpacing(3)
        self.column.addWidget(label(_TITLES[sort].upper(), "section"))
        self.column.addWidget(self._told)
        self.boxes: dict[str, tuple[Found, QCheckBox]] = {}
        self.found: list[Found] = []
        self._ended = False
        self.told: QLabel | None = None
        """What is said of the thing found last."""

    def add(self, found: Found) -> None:
        """Show one more thing."""
        self._told.hide()
        self.found.append(found)
        row = QVBoxLayout()
        row.setSpacing(0)
        if found.choice:
            box = QCheckBox(found.title)
            box.setChecked(found.ticked)
            box.setToolTip(found.choice)
            box.setAccessibleName(f"{found.title}. {found.choice}")
            row.addWidget(box)
            self.boxes[found.key] = (found, box)
            words = ElidedLabel(" · ".join(filter(None, (found.text, found.choice))), "muted")
            words.setContentsMargins(25, 0, 0, 0)  # Under the box' text.
            row.addWidget(words)
        else:
            row.addWidget(ElidedLabel(found.title))
            if found.text:
                self.told = label(found.text, "muted", wrap=True)
                row.addWidget(self.told)
        self.column.addLayout(row)

    def ended(self, text: str) -> None:
        """Nothing more comes; `text` says so when nothing came. Only the first one counts."""
        if not self.found and not self._ended:
            self._told.setText(text)
            self._told.setVisible(bool(text))
        self._ended = True

    def clear(self) -> None:
        """Look anew."""
        while self.column.count() > 2:
            _drop(self.column.takeAt(2))
        self.boxes, self.found, self._ended = {}, [], False
        self.told = None
        self._told.setText("Looking…")
        self._told.show()


class WelcomePage(QWidget):
    """Shows what is found as it is found, each thing with a tick where there is a choice.

    Signals:
        skipped: Nothing is to be used; the stage comes back.
        chosen: The Found that are ticked, and whether the first clip is to be made.
        set_up_requested: The engine is to be set up.
    """

    skipped = Signal()
    chosen = Signal(list, bool)
    set_up_requested = Signal()

    def __init__(self, first_prompt: str) -> None:
        super().__init__()
        self.setProperty("role", "form")
        self.setAccessibleName("Welcome")
        self.sections = {sort: _Section(sort) for sort in Sort}
        self.skip = Button("Skip", tip="Use nothing of it, now (Esc). Help → Welcome… comes back.")
        self.use = Button("Use these", tip="Use what is ticked")
        self.first = Button(
            "Generate the first clip",
            "primary",
            tip=f"Use what is ticked, and make a clip of “{first_prompt}”",
        )  # fmt: skip
        self.set_up = Button("Set up engine…", "primary")
        self.set_up.hide()
        self.skip.clicked.connect(self.skipped)
        self.use.clicked.connect(lambda: self.chosen.emit(self.ticked(), False))
        self.first.clicked.connect(lambda: self.chosen.emit(self.ticked(), True))
        self.set_up.clicked.connect(self.set_up_requested)
        self._first_words = f"The first clip: “{first_prompt}”, some seconds of work"
        self._foot = ElidedLabel(self._first_words, "muted")
        self._lay_out()

    def _lay_out(self) -> None:
        inside = QWidget()
        inside.setProperty("role", "form")
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 2, 6, 2)
        column.setSpacing(7)
        for section in self.sections.values():
            column.addWidget(section)
        column.addStretch(1)
        self.scroll = QScrollArea()
        self.scroll.setWidget(inside)
        self.scroll.setWidgetResizable(True)
        self.scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        self.scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        foot = QHBoxLayout()
        foot.setContentsMargins(0, 0, 6, 0)  # In line with the cards.
        foot.addWidget(self.skip)
        foot.addStretch(1)
        for button in (self.use, self.set_up, self.first):
            foot.addWidget(button)
        about = label(
            "This is what is on this computer; choose what to use. It was only looked at: "
            "nothing outside Framedeck's own folders is changed.",
            "muted",
            wrap=True,
        )
        middle = QWidget()
        middle.setMaximumWidth(_WIDEST)
        whole = QVBoxLayout(middle)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(8)
        whole.addWidget(label("Welcome to Framedeck", "title"))
        whole.addWidget(about)
        whole.addWidget(self.scroll, 1)
        whole.addWidget(self._foot)
        whole.addLayout(foot)
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 12, 14, 12)
        row.addWidget(middle, 1)

    def clear(self) -> None:
        """Look anew: nothing is found yet."""
        for section in self.sections.values():
            section.clear()
        self._offer_use()
        self.show_engine(ready=True, can_set_up=False)

    def take(self, found: Found | Looked) -> None:
        """Show something that was found, or that a kind of thing was looked for to the end."""
        section = self.sections[found.sort]
        if isinstance(found, Looked):
            section.ended(found.text)
        else:
            section.add(found)
            if found.choice:
                section.boxes[found.key][1].toggled.connect(self._offer_use)
                self._offer_use()

    def _offer_use(self) -> None:
        """Offer to use what is ticked, once there is something that can be."""
        self.use.setVisible(any(section.boxes for section in self.sections.values()))
        self.use.setEnabled(bool(self.ticked()))

    def over(self) -> None:
        """The look ended, perhaps before all was looked for."""
        for section in self.sections.values():
            section.ended("Not looked for: the other things took too long.")

    def show_engine(self, *, ready: bool, can_set_up: bool, words: str = "") -> None:
        """Offer the first clip where the engine can make it, else what sets it up.

        Args:
            ready: Whether it can run.
            can_set_up: Whether there is something that sets it up.
            words: What stands there of it from now on; "" leaves what does.
        """
        if words and self.sections[Sort.ENGINE].told is not None:
            self.sections[Sort.ENGINE].told.setText(words)
        held = next((one for one in (self.first, self.set_up) if one.hasFocus()), None)
        offered, other = self.first, self.set_up
        if can_set_up and not ready:
            offered, other = other, offered
        offered.show()
        self.first.setEnabled(ready)
        if held is not None:
            # Before the other one goes: the keyboard would land outside of the page.
            (offered if offered.isEnabled() else self.skip).setFocus()
        other.hide()
        self._foot.setText(
            self._first_words if ready else "The first clip can be made once there is an engine."
        )

    def ticked(self) -> list[Found]:
        """Return what is to be used, in order."""
        return [
            found
            for section in self.sections.values()
            for found, box in section.boxes.values()
            if box.isChecked()
        ]

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Skip on Escape; scroll, as most of it takes no focus."""
        bar, key = self.scroll.verticalScrollBar(), event.key()
        steps = {
            Qt.Key.Key_Up: -bar.singleStep(),
            Qt.Key.Key_Down: bar.singleStep(),
            Qt.Key.Key_PageUp: -bar.pageStep(),
            Qt.Key.Key_PageDown: bar.pageStep(),
        }
        if key == Qt.Key.Key_Escape:
            self.skipped.emit()
        elif key in steps:
            bar.setValue(bar.value() + steps[key])
        else:
            super().keyPressEvent(event)

    def showEvent(self, event: QShowEvent) -> None:
        """Let Escape and Return act at once; not when the whole window comes back."""
        super().showEvent(event)
        if not event.spontaneous():
            self.take_focus()

    def take_focus(self) -> None:
        """Give the keyboard to what is offered."""
        offered = self.first if self.set_up.isHidden() else self.set_up
        (offered if offered.isEnabled() else self.skip).setFocus()


def _drop(item: object) -> None:
    inner = item.layout()  # type: ignore[attr-defined]
    while inner is not None and inner.count():
        widget = inner.takeAt(0).widget()
        if widget is not None:
            widget.hide()
            widget.deleteLater()
    if inner is not None:
        inner.deleteLater()
