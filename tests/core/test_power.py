"""What is done with the computer: commands as lists, refusals in words, awake until let go."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from core.errors import Category, ProblemError
from core.power import After, awake, carry_out, parsed, words_of


@pytest.mark.parametrize(
    ("platform", "after", "first"),
    [
        ("linux", After.SLEEP, ["systemctl", "suspend"]),
        ("linux", After.SHUTDOWN, ["systemctl", "poweroff"]),
        ("win32", After.SLEEP, ["rundll32.exe", "powrprof.dll,SetSuspendState", "0,1,0"]),
        ("win32", After.SHUTDOWN, ["shutdown", "/s", "/t", "0"]),
        ("darwin", After.SLEEP, ["pmset", "sleepnow"]),
    ],
)
def test_each_system_has_its_words(platform: str, after: After, first: list[str]) -> None:
    assert words_of(after, platform) == first


def test_a_command_is_words_and_no_shell(tmp_path: Path) -> None:
    assert parsed(f'{sys.executable} -c "print(1)" "two words"') == [
        sys.executable, "-c", "print(1)", "two words",
    ]  # fmt: skip
    mark = tmp_path / "mark"
    words = parsed(f"{sys.executable} -c pass ; touch {mark}")
    carry_out(words)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('say "half', "cannot be read"),
        ("", "no command"),
        ("   ", "no command"),
        ("no-such-program-anywhere --now", "no program 'no-such-program-anywhere'"),
    ],
)
def test_a_bad_command_is_refused(line: str, told: str) -> None:
    with pytest.raises(ProblemError) as caught:
        parsed(line)
    assert told in caught.value.problem.message
    assert caught.value.problem.field == "command"
    assert caught.value.problem.category is Category.INVALID_PARAMS


def test_what_the_system_refuses_is_told() -> None:
    code = "import sys; print('first'); sys.exit('Interactive authentication required.')"
    with pytest.raises(ProblemError) as caught:
        carry_out([sys.executable, "-c", code])
    assert "says no: Interactive authentication required." in caught.value.problem.message
    with pytest.raises(ProblemError, match="cannot be run"):
        carry_out(["/no/such/program"])


def test_it_stays_awake_until_it_is_let_go() -> None:
    let_go, said, over = threading.Event(), [], threading.Event()

    def hold() -> None:
        said.extend(awake(let_go))
        over.set()

    threading.Thread(target=hold, daemon=True).start()
    until = time.monotonic() + 20
    while not said and time.monotonic() < until:
        time.sleep(0.02)
    assert len(said) == 1
    assert isinstance(said[0], bool)
    assert not over.wait(0.2)
    let_go.set()
    assert over.wait(20)
