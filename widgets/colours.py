"""Every colour by name, for both themes; no other file names one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from PySide6.QtWidgets import QApplication

Mode = Literal["light", "dark", "system"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Named colours of one theme, each "#rrggbb".

    Every name means the same in both themes. The phase and series colours
    differ in lightness as well as hue, so that they stay apart for
    colour-blind eyes; text never relies on colour alone.
    """

    name: str
    background: str
    panel: str
    raised: str
    field: str
    border: str
    text: str
    muted: str
    accent: str
    accent_hover: str
    accent_text: str
    link: str
    focus: str
    selection: str
    success: str
    success_panel: str
    warning: str
    warning_panel: str
    danger: str
    danger_panel: str
    info_panel: str
    stage: str
    badge: str
    badge_text: str
    phase_load: str
    phase_sample: str
    phase_decode: str
    phase_encode: str
    phase_verify: str
    series_worker: str
    series_comfyui: str
    series_llm: str
    series_panel: str
    series_other: str

    def phase(self, phase: str) -> str:
        """Return the colour of a `core.jobs.Phase`."""
        return cast(str, getattr(self, f"phase_{phase}"))

    def tone(self, tone: str) -> str:
        """Return the colour of "success", "warning", "danger", "info" or "muted"."""
        return {
            "success": self.success,
            "warning": self.warning,
            "danger": self.danger,
            "info": self.link,
        }.get(tone, self.muted)


DARK = Tokens(
    name="dark",
    background="#0e1014",
    panel="#191d24",
    raised="#242a34",
    field="#101319",
    border="#363d49",
    text="#e7eaef",
    muted="#9aa3b1",
    accent="#2b6cb0",
    accent_hover="#357bc4",
    accent_text="#ffffff",
    link="#6cb2f5",
    focus="#5aa9f5",
    selection="#263a52",
    success="#5fc184",
    success_panel="#15261d",
    warning="#e5b04a",
    warning_panel="#35290f",
    danger="#f2756d",
    danger_panel="#361a1b",
    info_panel="#152536",
    stage="#08090b",
    badge="#0c0e12",
    badge_text="#eef1f5",
    phase_load="#6a7382",
    phase_sample="#3f83cb",
    phase_decode="#d59a2e",
    phase_encode="#36a27b",
    phase_verify="#b98ad9",
    series_worker="#4a90d9",
    series_comfyui="#2f8f5b",
    series_llm="#e3d27a",
    series_panel="#e2a9cb",
    series_other="#717a89",
)

LIGHT = Tokens(
    name="light",
    background="#e9ecf0",
    panel="#f7f8fa",
    raised="#ffffff",
    field="#ffffff",
    border="#c6ccd5",
    text="#1b2028",
    muted="#596372",
    accent="#2463a6",
    accent_hover="#1d548f",
    accent_text="#ffffff",
    link="#1c5fa8",
    focus="#1f6fc4",
    selection="#d3e4f7",
    success="#1d7a45",
    success_panel="#e3f4ea",
    warning="#8a5a00",
    warning_panel="#fdf1d4",
    danger="#b3261e",
    danger_panel="#fce8e6",
    info_panel="#e4eefa",
    stage="#14171c",
    badge="#0c0e12",
    badge_text="#eef1f5",
    phase_load="#a9b1bd",
    phase_sample="#3576bd",
    phase_decode="#cf8f1d",
    phase_encode="#1f7d5a",
    phase_verify="#c39be0",
    series_worker="#3576bd",
    series_comfyui="#1c6b43",
    series_llm="#d9b23a",
    series_panel="#8e3370",
    series_other="#a6aebb",
)


def tokens(mode: Mode, app: QApplication | None = None) -> Tokens:
    """Return the colours of `mode`; "system" asks the desktop of `app`, dark if it is silent."""
    if mode == "system" and app is not None:
        # Not at the top: naming `Qt` makes all its enums, 14 ms before the first paint.
        from PySide6.QtCore import Qt

        light = app.styleHints().colorScheme() is Qt.ColorScheme.Light
        return LIGHT if light else DARK
    return LIGHT if mode == "light" else DARK
