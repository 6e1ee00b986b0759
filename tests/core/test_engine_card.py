"""Which build of torch serves which cards, and what is said of those that it does not."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import environment
from core.engine_env import card
from core.engine_env.card import BUILDS, Card, fitting, knows, read_card, why
from tests.app.test_environment import FakeDriver

PASCAL, TURING, ADA, BLACKWELL = (6, 1), (7, 5), (8, 9), (12, 0)
NAMES = {
    (3, 5): "Tesla K40",
    PASCAL: "GTX 1080",
    (7, 0): "Tesla V100",
    TURING: "RTX 2080",
    ADA: "RTX 4090",
    BLACKWELL: "RTX 5090",
}
DRIVERS = [(12, minor) for minor in range(10)] + [(13, minor) for minor in range(4)]


def machine(cuda: tuple[int, int], *cards: tuple[int, int]) -> Card:
    """Return a machine with these cards, the newest first."""
    newest, *others = [(one, NAMES[one]) for one in cards]
    return Card(cuda, *newest, tuple(others))


class Nvml:
    """Answers as the driver's library does."""

    NVMLError = RuntimeError

    def __init__(self, number: int, cards: list[tuple[int, int]]) -> None:
        self.number, self.cards = number, cards

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self.number

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetCudaComputeCapability(self, index: int) -> tuple[int, int]:
        return self.cards[index]

    def nvmlDeviceGetName(self, index: int) -> str:
        return NAMES[self.cards[index]]


def read(monkeypatch: pytest.MonkeyPatch, number: int, *cards: tuple[int, int]) -> Card:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(number, list(cards)))
    return read_card()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("number", [0, 5])
def test_a_checkout_and_the_program_choose_the_same_build(
    monkeypatch: pytest.MonkeyPatch, driver: tuple[int, int], number: int
) -> None:
    said = driver[0] * 1000 + driver[1] * 10 + number
    bare = environment.driver_version(lambda _: FakeDriver(said))
    found = read(monkeypatch, said, ADA)
    assert bare == found.cuda == driver
    assert environment.torch_tag(bare) == fitting(found)[0]
    assert environment.torch_tag(bare) == fitting(Card(driver))[0]


def test_both_tables_are_one() -> None:
    assert environment.TORCH_BUILDS == BUILDS
    assert set(card.KERNELS) == {tag for _, tag in BUILDS}
    assert environment.torch_tag(None) == fitting(Card())[0] == "cpu"


def test_all_cards_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(monkeypatch, 13000, PASCAL, ADA, TURING)
    assert found == Card((13, 0), ADA, "RTX 4090", ((TURING, "RTX 2080"), (PASCAL, "GTX 1080")))
    assert found.known[-1] == (PASCAL, "GTX 1080")
    assert read(monkeypatch, 13000) == Card()
    monkeypatch.setitem(
        sys.modules, "pynvml", SimpleNamespace(NVMLError=RuntimeError, nvmlInit=_refuse)
    )
    assert read_card() == Card()


def _refuse() -> None:
    raise RuntimeError("no driver")


@pytest.mark.parametrize(
    ("found", "tags", "words"),
    [
        (machine((13, 0), ADA, ADA), ("cu130", "cu128", "cu126", "cpu"), ""),
        (machine((12, 9), ADA, TURING), ("cu128", "cu126", "cpu"), ""),
        (machine((13, 0), ADA, PASCAL), ("cu126", "cu130", "cu128", "cpu"),
         ", and GTX 1080 is of a generation that only cu126 knows."),
        (machine((13, 0), ADA, (7, 0), PASCAL), ("cu126", "cu130", "cu128", "cpu"),
         ", and Tesla V100 and GTX 1080 are of a generation that only cu126 knows."),
        (machine((12, 6), ADA, PASCAL), ("cu126", "cpu"), "."),
        (machine((13, 0), BLACKWELL, ADA), ("cu130", "cu128", "cu126", "cpu"), ""),
        (machine((13, 0), BLACKWELL, PASCAL), ("cu130", "cu128", "cu126", "cpu"),
         ". GTX 1080 will not be used: cu130 has no kernels for its generation."),
        (machine((12, 8), BLACKWELL, ADA, PASCAL, PASCAL), ("cu128", "cu126", "cpu"),
         ". GTX 1080 will not be used: cu128 has no kernels for its generation."),
        (machine((13, 0), BLACKWELL, (7, 0), PASCAL), ("cu130", "cu128", "cu126", "cpu"),
         ". Tesla V100 and GTX 1080 will not be used: cu130 has no kernels for their "
         "generations."),
        (machine((12, 6), BLACKWELL, ADA), ("cu126", "cpu"),
         ". RTX 5090 will not be used: cu126 has no kernels for its generation."),
        (machine((12, 6), BLACKWELL), ("cpu",),
         ", and RTX 5090 wants 12.8: clips are made on the CPU until the driver is newer."),
        (machine((12, 6), BLACKWELL, (3, 5)), ("cpu",), ", and RTX 5090 wants 12.8: "),
        (machine((12, 4), BLACKWELL, PASCAL), ("cpu",), ", which is older than 12.6: "),
        (machine((13, 0), (3, 5)), ("cpu",), ", but no build of torch knows Tesla K40: "),
        # Of two builds that leave a card out, the one that leaves out the fewest.
        (machine((13, 0), ADA, PASCAL, (3, 5)), ("cu126", "cu130", "cu128", "cpu"),
         ". Tesla K40 will not be used: cu126 has no kernels for its generation."),
    ],
)  # fmt: skip
def test_cards_of_several_generations(found: Card, tags: tuple[str, ...], words: str) -> None:
    assert fitting(found) == tags
    said = why(found, tags[0])
    assert words in said
    # It stands in a dialog: a sentence or two.
    assert said.count(". ") <= 1
    assert len(said) <= 160


def test_a_build_that_is_not_locked_leaves_out_a_card_and_says_so() -> None:
    said = why(machine((13, 0), ADA, PASCAL), "cu130", ("cu126",))
    assert "(cu126), so cu130 is taken." in said
    assert said.endswith("GTX 1080 will not be used: cu130 has no kernels for its generation.")


@given(
    st.sampled_from([*DRIVERS, (11, 8), (14, 0)]),
    st.lists(st.sampled_from([*NAMES, None]), max_size=4),
)
def test_whatever_cards_there_are(driver: Any, capabilities: Any) -> None:
    each = sorted(capabilities, key=lambda one: one or (0, 0), reverse=True)
    others = tuple((one, NAMES.get(one, "")) for one in each[1:])
    newest = each[0] if each else None
    found = Card(driver, newest, NAMES.get(newest, ""), others)
    tags = fitting(found)
    can = [tag for oldest, tag in BUILDS if driver >= oldest]
    cards = [one for one, _ in found.known]
    serving = [tag for tag in can if all(knows(tag, one) for one in cards)]
    assert set(tags) <= {*can, "cpu"}
    if serving:
        assert tags[0] == serving[0]  # The newest of them.
    elif any(knows(tag, cards[0]) for tag in can):
        assert knows(tags[0], cards[0])  # Nothing serves all: the newest card is served.
    said = why(found, tags[0])
    left = {name for one, name in found.known if tags[0] != "cpu" and not knows(tags[0], one)}
    assert ("will not be used" in said) == bool(left)
    assert all(name in said for name in left)
