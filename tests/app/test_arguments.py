"""Arguments of the window: what cannot be meant ends with 2 and a line that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import dialogs, launchers
from app.main import NO_SCREEN, _options, main
from core import frozen


@pytest.mark.parametrize("size", ["0x0", "1600x0", "-5x100", "99999x99999", "3x", "axb"])
def test_a_size_that_no_window_has_is_refused(
    size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--size={size}", "--screenshot", "x.png"])
    assert ended.value.code == 2
    assert "such as 1600x1000" in capsys.readouterr().err


def test_a_size_is_taken() -> None:
    assert _options(["--size", "1100X700"]).size == (1100, 700)


@pytest.mark.parametrize(
    ("word", "words"),
    [("genrate", "Did you mean generate?"), ("zzzz", "`framedeck --help` lists the commands.")],
)
def test_a_misspelled_command_opens_no_window(
    word: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([word])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert f"'{word}' is neither a command nor a file." in error
    assert words in error


def test_files_are_taken_whether_they_are_there_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").touch()
    home = ["--home", "nowhere", "--theme", "dark"]
    names = ["plain", "gone.zip", str(tmp_path / "gone")]
    assert _options([*home, *names]).files == [tmp_path / name for name in names]


def test_words_for_a_terminal_name_what_starts_this_copy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for packaged, start in ((False, "python3 -m app"), (True, "framedeck")):
        monkeypatch.setattr(frozen, "is_frozen", lambda packaged=packaged: packaged)
        assert frozen.start_words() == start
        with pytest.raises(SystemExit):
            launchers.main(["--help"])
        assert f"usage: {start} desktop-entry" in capsys.readouterr().out
    assert "python3" not in NO_SCREEN.format(start="framedeck")


def test_about_names_a_checkout_only_where_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = frozen.version()
    assert dialogs.version() == f"{plain} (checkout)"
    monkeypatch.setattr(frozen, "version", lambda: plain)
    monkeypatch.setattr(frozen, "is_frozen", lambda: True)
    assert dialogs.version() == plain
