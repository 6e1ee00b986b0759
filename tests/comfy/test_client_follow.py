"""Every recorded transcript gives the right ending, outputs and progress, whatever was heard."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.engines.comfy.answers import End
from tests.comfy import recorded
from tests.comfy.replay import Frames, Recording, follow

# How the prompts of each transcript ended, in the order they were sent. "s": success,
# "e": error, "i": interrupted, "l": lost, "-": never (the server stayed away).
EXPECTED = {
    "01_sd15_first_run": "s",
    "02_sd15_cached_rerun": "s",
    "03_sd15_seed_changed": "s",
    "04_sd15_preview_metadata": "s",
    "05_wan21_t2v_all_savers": "s",
    "06_wan21_t2v_vhs_latentpreview": "s",
    "07_wan21_i2v_clipvision": "s",
    "08_wan22_14b_two_experts": "s",
    "09_wan_single_frame_image": "s",
    "10_wan22_ti2v_5b": "s",
    "11_animatediff_context": "s",
    "12_svd": "s",
    "20_two_prompts_queued": "ss",
    "21_interrupt_no_id": "is",
    "22_interrupt_with_id": "is",
    "23_interrupt_idle_then_submit": "s",
    "24_interrupt_uninterruptible_node": "is",
    "25_queue_delete_clear": "slsll",
    "26_order_front_number": "sssss",
    "27_free_idle": "sss",
    "28_free_while_running": "ss",
    "29_reconnect_midrun_clean": "s",
    "30_same_client_id_twice": "s",
    "31_no_client_id_in_prompt": "s",
    "32_other_clients_prompt": "s",
    "33_execution_errors": "e" * 11,
    "35_history_race": "s" * 20,
    "36_logs_subscription": "s",
    "37_history_api": "sssss",
    "40_sigkill_midrun": "slls",
    "41_sigint_midrun": "-",
    "42_sigterm_midrun": "-",
    "44_worker_thread_dead": "-l",
    "45_same_number_same_id": "ss",
    "46_slow_reader": "ss",
    "47_free_memory_fresh_server": "sss",
    "55_save_image_websocket": "s",
    "56_duplicate_output_nodes": "ss",
    "57_batch_images": "s",
    "58_missing_file_cached": "ss",
    "60_preview_method_auto": "s",
    "60_preview_method_none": "s",
    "60_preview_method_taesd": "s",
    "61_cache_lru": "sss",
    "61_cache_none": "sss",
}
LETTERS = {End.SUCCESS: "s", End.ERROR: "e", End.INTERRUPTED: "i", End.LOST: "l", None: "-"}


# What the socket did not say: nobody hears the start of a prompt without a client id,
# and while one client does not read its socket nobody hears anything.
UNTOLD = {
    "31_no_client_id_in_prompt": {"f7c32653": (0.1131, 41.3309)},
    "46_slow_reader": {"e02e8368": (0.12, 15.9), "5e55e01e": (16.0, 16.3)},
}
ENDED = "sei"


@cache
def recording(name: str) -> Recording:
    return Recording(recorded.transcript(name), UNTOLD.get(name))


def letters(name: str, change: Callable[[Frames], Frames] = lambda frames: frames) -> str:
    """Return how the prompts ended, having compared their outputs with the server's."""
    found = ""
    for prompt in recording(name).prompts.values():
        follower, now, told = follow(recording(name), prompt.id, change)
        found += LETTERS[follower.end]
        if LETTERS[follower.end] in ENDED:
            known = prompt.history["outputs"] if prompt.history else prompt.outputs
            assert follower.outputs == known
            assert now - prompt.ended < 3.1, "seen within three seconds"
        else:
            assert follower.outputs == {}
        steps = iter(prompt.steps)
        assert all(step in steps for step in told), "no step that was not, none out of order"
    return found


def test_no_transcript_is_left_out() -> None:
    # These two have no prompt in them.
    without = {"34_ws_odd_messages", "59_new_model_file_appears"}
    assert set(recorded.names("ws")) == {*EXPECTED, *without}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_transcript_ends_as_it_did(name: str) -> None:
    assert letters(name) == EXPECTED[name]
    for prompt in recording(name).prompts.values():
        follower, now, told = follow(recording(name), prompt.id)
        assert told == prompt.steps
        if prompt.ended <= recording(name).ends_at and name not in UNTOLD:
            assert now - prompt.ended < 0.05, "the socket makes it quick"
        if LETTERS[follower.end] == "e":
            assert follower.error is not None
            assert follower.error.node in prompt.graph
            assert follower.error.kind


@pytest.mark.parametrize("name", EXPECTED)
def test_polling_alone_is_enough(name: str) -> None:
    assert letters(name, lambda frames: []) == EXPECTED[name]


@pytest.mark.parametrize("name", ["40_sigkill_midrun", "25_queue_delete_clear"])
def test_lost_is_said_soon_and_not_while_the_server_is_away(name: str) -> None:
    rec = recording(name)
    back = rec.answers_again if rec.dies < float("inf") else 0.0
    for prompt, letter in zip(rec.prompts.values(), EXPECTED[name], strict=True):
        if letter == "l":
            _, now, _ = follow(rec, prompt.id)
            assert max(back, prompt.gone) + 1 < now < max(back, prompt.gone) + 5


# Short ones, so that many changes can be tried; between them they have every ending.
SHORT = [
    "02_sd15_cached_rerun",
    "05_wan21_t2v_all_savers",
    "06_wan21_t2v_vhs_latentpreview",
    "22_interrupt_with_id",
    "25_queue_delete_clear",
    "33_execution_errors",
    "40_sigkill_midrun",
    "45_same_number_same_id",
    "55_save_image_websocket",
]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SHORT), st.floats(0.05, 1), st.integers(0, 2**32))
def test_any_messages_may_be_missing(name: str, share: float, seed: int) -> None:
    def change(frames: Frames) -> Frames:
        dice = random.Random(seed)
        return [frame for frame in frames if dice.random() > share]

    assert letters(name, change) == EXPECTED[name]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SHORT), st.floats(0, 1), st.floats(0, 3), st.integers(0, 2**32))
def test_messages_may_come_twice_and_late(
    name: str, share: float, seconds: float, seed: int
) -> None:
    rec = recording(name)

    def change(frames: Frames) -> Frames:
        dice = random.Random(seed)
        again = [(at + dice.random() * seconds, frame) for at, frame in frames]
        return frames + [frame for frame in again if dice.random() < share]

    found = "".join(LETTERS[follow(rec, prompt, change)[0].end] for prompt in rec.prompts)
    assert found == EXPECTED[name]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), st.text(max_size=60)), max_size=30))
def test_junk_between_the_messages_changes_nothing(junk: list[str | bytes]) -> None:
    name = "22_interrupt_with_id"

    def change(frames: Frames) -> Frames:
        return frames + [(index * 0.15, frame) for index, frame in enumerate(junk)]

    assert letters(name, change) == EXPECTED[name]
