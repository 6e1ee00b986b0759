"""Where Framedeck keeps things on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

HOME_VARIABLE = "FRAMEDECK_HOME"
"""Environment variable naming one folder to hold everything, for tests and portable use."""


@dataclass(frozen=True, slots=True)
class Places:
    """Folders and files by purpose. Nothing is made until `make` is called."""

    data: Path
    outputs: Path
    logs: Path

    @property
    def ledger(self) -> Path:
        """The job ledger."""
        return self.data / "ledger.sqlite"

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.data / "settings.json"

    @property
    def models(self) -> Path:
        """Models that Framedeck makes or downloads."""
        return self.data / "models"

    @property
    def latents(self) -> Path:
        """Latents of jobs that are not finished."""
        return self.data / "latents"

    @property
    def speeds(self) -> Path:
        """Which speed switches were measured fastest here."""
        return self.data / "speed.json"

    @property
    def measured(self) -> Path:
        """The history of `framedeck bench engine`."""
        return self.data / "bench.jsonl"

    @property
    def worked(self) -> Path:
        """What helped where memory ran out."""
        return self.data / "worked.json"

    @property
    def workflows(self) -> Path:
        """ComfyUI workflows that the user added."""
        return self.data / "workflows"

    @property
    def log(self) -> Path:
        """The rotating log of the program."""
        return self.logs / "framedeck.log"

    @property
    def worker_log(self) -> Path:
        """Whatever the engine's process prints."""
        return self.logs / "engine.log"

    @property
    def crash_log(self) -> Path:
        """Where the window's stacks go when it crashes."""
        return self.logs / "crash.log"

    @property
    def crashes(self) -> Path:
        """Records of crashes."""
        return self.logs / "crashes"

    @property
    def runs(self) -> Path:
        """A folder for each run of a job, with its `vram-usage.log`."""
        return self.logs / "runs"

    def make(self) -> Places:
        """Create the folders. Raises OSError when one cannot be made."""
        for folder in (self.data, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        return self

    @staticmethod
    def find(home: Path | None = None) -> Places:
        """Return this user's places, or those below `home` or FRAMEDECK_HOME."""
        root = home or (Path(os.environ[HOME_VARIABLE]) if os.environ.get(HOME_VARIABLE) else None)
        if root is not None:
            root = root.absolute()
            return Places(root, root / "outputs", root / "logs")
        dirs = platformdirs.PlatformDirs("framedeck", appauthor=False)
        videos = Path(platformdirs.user_videos_dir()) / "Framedeck"
        return Places(dirs.user_data_path, videos, dirs.user_log_path)
