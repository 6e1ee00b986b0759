"""What a failure means: a table of texts, and errors that are raised for real."""

from __future__ import annotations

import json
import pickle
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import resources
from core.errors import Category, Problem, ProblemError, problem_from
from core.failures.causes import Cause, category_of, cause_for
from core.failures.classify import (
    PRINTED,
    Source,
    cause_of,
    classify,
    diagnose,
    is_poison,
    refined,
)
from core.failures.recovery import PAGES, Action, recovery

TABLE = Path(__file__).resolve().parents[1] / "data" / "failures.json"
ROWS: list[dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
NEVER_AGAIN = {Category.INVALID_PARAMS, Category.MODEL_NOT_FOUND}


def told(text: str, category: Category = Category.UNKNOWN, details: str = "") -> Problem:
    return Problem(category, text, "", details)


# -- the table -------------------------------------------------------------------


def test_the_table_is_as_large_and_as_wide_as_promised() -> None:
    assert len(ROWS) >= 60
    assert len({row["text"] for row in ROWS}) == len(ROWS)
    told_of = Counter(row["category"] for row in ROWS)
    assert set(told_of) == {category.value for category in Category}
    assert min(told_of.values()) >= 3
    assert {row["cause"] for row in ROWS} >= set(Cause) - {Cause.WORKER, Cause.FILE_MISSING}
    taken = " ".join(row["origin"] for row in ROWS)
    for origin in ("ComfyUI, recorded", "torch", "diffusers", "requests", "Linux", "Windows"):
        assert origin in taken


@pytest.mark.parametrize("row", ROWS, ids=[row["text"][:48] for row in ROWS])
def test_each_text_has_its_category_and_its_steps(row: dict[str, Any]) -> None:
    source = Source(row["source"])
    assert diagnose(row["text"], source) == row["cause"]
    assert classify(row["text"], source) == row["category"]
    problem = Problem(Category(row["category"]), row["text"], "")
    found = recovery(problem)
    assert found.poisoned is row["poisoned"]
    assert len(found.steps) >= 2
    assert any(step.action is not None for step in found.steps)
    assert found.page == PAGES[Category(row["category"])]
    if problem.category in NEVER_AGAIN:
        assert not found.retryable
    # What a server says stands behind the words of a problem without a category.
    if row["cause"] != Cause.UNKNOWN and source in (Source.SERVER, Source.ENGINE):
        words = f"The server failed in VAE Decode: {row['text'].splitlines()[0][:80]}"
        behind = Problem(Category.UNKNOWN, "The server failed.", "", row["text"])
        assert cause_of(behind) == row["cause"]
        assert refined(Problem(Category.UNKNOWN, words, "h", row["text"], "f")) == Problem(
            Category(row["category"]), words, "h", row["text"], "f"
        )


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_its_way_out(cause: Cause) -> None:
    from core.failures.recovery import _WHAT

    what = _WHAT[cause]
    assert len(what.steps) >= 2
    assert len({step.text for step in what.steps}) == len(what.steps)
    assert any(step.action is not None for step in what.steps)
    assert all(step.text[0].isupper() and step.text.endswith(".") for step in what.steps)
    # A card and a notice have little room.
    assert all(len(step.text) <= 76 for step in what.steps)
    actions = [step.action for step in what.steps if step.action is not None]
    assert len(set(actions)) == len(actions)


def test_categories_and_causes_belong_together() -> None:
    assert all(category_of(cause_for(category)) is category for category in Category)
    assert {category_of(cause) for cause in Cause} == set(Category)


def test_each_page_is_a_heading_of_the_guide() -> None:
    text = resources.path("failures.md").read_text(encoding="utf-8")
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == list(PAGES.values())


# -- raised for real ---------------------------------------------------------------


def _refused() -> None:
    import requests

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    requests.get(f"http://127.0.0.1:{port}/queue", timeout=2)


def _deaf() -> None:
    import requests

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        requests.get(f"http://127.0.0.1:{server.getsockname()[1]}/queue", timeout=0.1)


def _slammed() -> None:
    import requests

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def slam() -> None:
            taken, _ = server.accept()
            taken.recv(1000)
            taken.close()

        thread = threading.Thread(target=slam)
        thread.start()
        try:
            requests.get(f"http://127.0.0.1:{server.getsockname()[1]}/queue", timeout=2)
        finally:
            thread.join()


def _not_there() -> None:
    import requests

    answer = requests.Response()
    answer.status_code = 404
    answer.url = "http://127.0.0.1:8188/prompts"
    answer.reason = "Not Found"
    answer.raise_for_status()


def _no_address() -> None:
    import requests

    requests.get("127.0.0.1:8188", timeout=1)


def _full_disk() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")


def _numpy_memory() -> None:
    import numpy as np

    np.empty((1 << 62,), np.uint8)


def _damaged_header() -> None:
    from safetensors import deserialize

    deserialize(b"\xff" * 64)


def _no_picture() -> None:
    import io

    from PIL import Image

    Image.open(io.BytesIO(b"no picture"))


def _too_slow() -> None:
    subprocess.run([sys.executable, "-c", "import time; time.sleep(9)"], timeout=0.1)


def _killed() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code], check=True)


def _taken_port() -> None:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        first.listen()
        second.bind(first.getsockname())


def _import() -> None:
    import a_package_that_nobody_has  # noqa: F401


REAL: list[tuple[Callable[[], object], Cause]] = [
    (_refused, Cause.REFUSED),
    (_deaf, Cause.TIMED_OUT),
    (_slammed, Cause.BROKEN_OFF),
    (_not_there, Cause.NETWORK),
    (_no_address, Cause.VALUE),
    (_full_disk, Cause.DISK_FULL),
    (_numpy_memory, Cause.HOST_MEMORY),
    (_damaged_header, Cause.MODEL_DAMAGED),
    (_no_picture, Cause.INPUT),
    (_too_slow, Cause.TIMED_OUT),
    (_killed, Cause.DIED),
    (_taken_port, Cause.PORT_TAKEN),
    (_import, Cause.PACKAGE),
    (lambda: socket.getaddrinfo("no-such-host.invalid", 80), Cause.UNREACHABLE),
    (lambda: pickle.loads(b"<html>"), Cause.MODEL_DAMAGED),
    (lambda: Path("/nowhere/vae.safetensors").read_bytes(), Cause.MODEL_MISSING),
    (lambda: Path("/nowhere/clip.mp4").read_bytes(), Cause.FILE_MISSING),
    (lambda: Path("/").write_bytes(b""), Cause.STORAGE),
    (lambda: sqlite3.connect(":memory:").execute("select * from nothing"), Cause.STORAGE),
    (lambda: int("seven"), Cause.UNKNOWN),
    (lambda: {}["a timeout"], Cause.UNKNOWN),
]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("act", "cause"), REAL, ids=[str(act) for act, _ in REAL])
def test_real_errors(act: Callable[[], object], cause: Cause) -> None:
    with pytest.raises(Exception) as caught:
        act()
    assert diagnose(caught.value) == cause
    problem = problem_from(caught.value)
    assert problem.category == category_of(cause)
    assert problem.hint
    assert "Traceback" in problem.details
    # Again from the ledger, where only words are left.
    if cause is not Cause.UNKNOWN:
        again = recovery(Problem.from_json(problem.to_json()))
        assert category_of(again.cause) == problem.category


def test_real_errors_of_torch() -> None:
    import torch

    def build(size: int) -> Any:
        return torch.nn.Sequential(torch.nn.Linear(size, size))

    acts: list[tuple[Callable[[], object], Cause]] = [
        (lambda: torch.empty(1 << 55), Cause.HOST_MEMORY),
        (lambda: build(4).load_state_dict({}), Cause.MODEL_OTHER),
        (lambda: build(4).load_state_dict(build(5).state_dict()), Cause.MODEL_OTHER),
        (lambda: build(4)(torch.zeros(1, 5)), Cause.PARTS),
        (lambda: torch.nn.Conv3d(48, 48, 1)(torch.zeros(1, 16, 2, 8, 8)), Cause.PARTS),
        (lambda: torch.zeros(2, 36) + torch.zeros(2, 32), Cause.PARTS),
        (lambda: _raise(torch.OutOfMemoryError("Allocation on device ")), Cause.GPU_MEMORY),
    ]
    if not torch.cuda.is_available():
        acts.append((lambda: torch.zeros(1, device="cuda"), Cause.NO_GPU))
    for act, cause in acts:
        with pytest.raises(Exception) as caught:
            act()
        assert diagnose(caught.value, Source.ENGINE) == cause, caught.value
        # And as the words that a server would send of it.
        kind = f"{type(caught.value).__module__}.{type(caught.value).__qualname__}"
        assert diagnose(f"{kind}: {caught.value}", Source.SERVER) == cause, caught.value


def _raise(error: BaseException) -> None:
    raise error


# -- types, chains and categories -----------------------------------------------------


def test_types_come_before_words() -> None:
    memory = type("OutOfMemoryError", (RuntimeError,), {})
    assert classify(memory("No space left on device; connection refused")) == "insufficient_vram"
    assert classify(PermissionError(13, "denied", "/srv/a.safetensors")) == "storage"
    assert classify(ConnectionRefusedError(111, "out of memory")) == "network_error"


def test_the_outer_error_decides_and_the_inner_one_helps() -> None:
    def wrapped(outer: Exception, inner: Exception) -> Exception:
        try:
            try:
                raise inner
            except Exception as caught:
                raise outer from caught
        except Exception as error:
            return error

    full = OSError(28, "No space left on device")
    assert classify(wrapped(RuntimeError("could not save"), full)) == "storage"
    assert classify(wrapped(TimeoutError("too slow"), full)) == "timeout"
    named = ProblemError(Problem(Category.BAD_OUTPUT, "black", ""))
    assert classify(wrapped(RuntimeError("odd"), named)) == "bad_output"
    ring = ValueError("odd")
    ring.__cause__ = ring
    assert classify(ring) == "unknown"


def test_a_guess_comes_from_the_source_alone_when_nothing_else_tells() -> None:
    guessed = {source: classify("odd", source).value for source in Source}
    assert guessed == {
        "any": "unknown",
        "engine": "unknown",
        "server": "unknown",
        "network": "network_error",
        "refusal": "invalid_params",
        "process": "worker_unavailable",
        "files": "storage",
        "output": "bad_output",
    }


def test_a_given_category_is_kept_and_told_finer() -> None:
    assert cause_of(told("Connection refused", Category.TIMEOUT)) is Cause.TIMED_OUT
    assert cause_of(told("odd", Category.STORAGE, "disk quota exceeded")) is Cause.DISK_FULL
    kept = told("CUDA out of memory", Category.INVALID_PARAMS)
    assert refined(kept) is kept
    assert not recovery(kept).retryable


def test_what_was_printed_beside_it_is_no_reason_but_poisons() -> None:
    beside = f"ValueError: odd\n{PRINTED}\nConnection refused\n"
    assert refined(told("odd", details=beside)).category is Category.UNKNOWN
    assert not recovery(told("odd", details=beside)).poisoned
    cuda = beside + "CUDA error: an illegal memory access was encountered\n"
    found = recovery(told("There was not enough memory.", Category.INSUFFICIENT_VRAM, cuda))
    assert found.poisoned
    assert found.cause is Cause.GPU_MEMORY
    assert found.steps[0].action is Action.RESTART_ENGINE
    assert len({step.text for step in found.steps}) == len(found.steps)


def test_the_hint_that_torch_prints_with_every_error_poisons_nothing() -> None:
    assert not is_poison("Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.")


def test_a_type_is_found_at_either_end_of_a_long_text() -> None:
    frames = '  File "a.py", line 3, in load\n    odd()\n' * 3_000
    assert classify(f"MemoryError in VAEDecode (8)\n\nTraceback:\n{frames}") == "insufficient_vram"
    assert classify(f"Traceback:\n{frames}MemoryError") == "insufficient_vram"


def test_no_wrong_parameter_or_missing_model_is_tried_again() -> None:
    for cause in Cause:
        problem = Problem(category_of(cause), "", "")
        if problem.category in NEVER_AGAIN:
            assert not recovery(problem).retryable
    assert recovery(told("", Category.INSUFFICIENT_VRAM)).fallback == "decode in tiles"
    assert recovery(told("", Category.UNKNOWN)).fallback is None


# -- hostile words -------------------------------------------------------------------


@given(st.text(), st.sampled_from(Source))
def test_any_text_ends_in_a_category_with_steps(text: str, source: Source) -> None:
    category = classify(text, source)
    assert len(recovery(Problem(category, text, "", text)).steps) >= 2
    again = refined(Problem(Category.UNKNOWN, text, "h", text))
    assert (again.message, again.hint, again.details) == (text, "h", text)


@pytest.mark.parametrize(
    "piece",
    ["'", "a", " ", "^~ ", "Cannot allocate ", "not in [", "model 'x ", "x.", "Error: ", "\n"
     '  File "x", line 3\n    ', "expected input[", "cannot load ", ".pt' not ", "401 "],
)  # fmt: skip
def test_a_long_text_takes_no_long_time(piece: str) -> None:
    text = piece * (2_000_000 // len(piece))
    began = perf_counter()
    diagnose(text)
    is_poison(text)
    # About 0.1 s on a quiet machine; what grows with the square takes minutes.
    assert perf_counter() - began < 5
