"""The judge, held against freshly painted clips whose content is known."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from core import judge
from core.judge import names

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scenes() -> ModuleType:
    path = ROOT / "packaging" / "starter" / "scenes.py"
    spec = importlib.util.spec_from_file_location("starter_scenes", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def wrong(scene, seen: judge.Seen) -> list[str]:
    """What the judge says otherwise than the scene."""
    pairs = {
        "colour": (seen.colours, tuple(thing.colour for thing in scene.things)),
        "shape": (tuple(t.shape for t in seen.things), tuple(t.shape for t in scene.things)),
        "motion": (seen.motion, scene.motion),
        "background": (seen.background, scene.background),
        "clean": (seen.clean, True),
    }
    return [key for key, (said, asked) in pairs.items() if said != asked]


def scores(scenes, seed: int, count: int, spoil) -> Counter:
    rng = np.random.default_rng(seed)
    missed: Counter = Counter()
    for number in range(count):
        scene = scenes.draw(rng, kept=number % 10 == 0)
        frames = 16 if number % 2 else int(rng.integers(8, 33))
        missed.update(wrong(scene, judge.look(spoil(scenes.render(scene, frames), rng))))
    return missed


@pytest.mark.parametrize("seed", [11, 12])
def test_it_is_right_about_known_clips(scenes: ModuleType, seed: int) -> None:
    count = 100
    missed = scores(scenes, seed, count, lambda clip, rng: clip)
    assert all(number <= 0.02 * count for number in missed.values()), missed


def test_noise_and_soft_edges_do_not_mislead_it(scenes: ModuleType) -> None:
    def spoil(clip, rng):
        soft = clip.astype(np.float32)
        for axis in (1, 2):
            soft = soft * 0.5 + (np.roll(soft, 1, axis) + np.roll(soft, -1, axis)) * 0.25
        return np.clip(soft + rng.normal(0, 6, clip.shape), 0, 255).astype(np.uint8)

    missed = scores(scenes, 13, 60, spoil)
    assert all(number <= 0.05 * 60 for number in missed.values()), missed


def test_every_word_for_motion_can_be_said(scenes: ModuleType) -> None:
    rng = np.random.default_rng(3)
    said = set()
    while len(said) < len(names.MOTIONS):
        scene = scenes.draw(rng, pairs=0)
        if scene.motion not in said:
            assert judge.look(scenes.render(scene, 16)).motion == scene.motion
            said.add(scene.motion)


def test_it_denies_what_is_not_there(scenes: ModuleType) -> None:
    rng = np.random.default_rng(4)
    scene = replace(scenes.draw(rng, pairs=0), motion="left", ground="plain", ground_colour="grey")
    clip = scenes.render(scene, 16)
    assert judge.look(clip).motion == "left"
    assert judge.look(clip[::-1]).motion == "right"
    still = judge.look(np.repeat(clip[8:9], 16, 0))
    assert (still.motion, still.background) == ("still", "plain grey")
    green = (clip.astype(int) * [0, 1, 0]).astype(np.uint8)
    assert judge.look(green).background != "plain grey"


def test_noise_is_not_a_clean_clip() -> None:
    rng = np.random.default_rng(5)
    seen = judge.look(rng.integers(0, 256, (16, 64, 64, 3), np.uint8))
    assert not seen.clean


def test_an_empty_picture_has_no_object() -> None:
    seen = judge.look(np.full((8, 64, 64, 3), 128, np.uint8))
    assert (seen.things, seen.motion, seen.background) == ((), "", "plain grey")
    assert not seen.clean


def test_flicker_is_measured(scenes: ModuleType) -> None:
    rng = np.random.default_rng(6)
    while True:
        scene = scenes.draw(rng, pairs=0)
        if (scene.motion, scene.ground, scene.things[0].colour) == ("right", "plain", "red"):
            break
    clip = scenes.render(scene, 16)
    steady = judge.look(clip).things[0]
    assert steady.colour_change < 0.02
    assert steady.size_change < 0.04
    bright = clip.copy()
    bright[5] = np.clip(bright[5].astype(int) + 60, 0, 255)
    assert judge.look(bright).things[0].colour_change > 0.1


def dented(scenes: ModuleType, name: str, strength: float, seed: int) -> np.ndarray:
    """A clip of a grey object on white whose outline is bent otherwise in each frame."""
    rng = np.random.default_rng(seed)
    path = np.tile(np.float32([32, 32, 14, 0]), (16, 1))
    cover = scenes.coverage(name, path)
    ys, xs = np.mgrid[:64, :64] + 0.5 - 32
    angle, far = np.arctan2(ys, xs), np.hypot(xs, ys)
    frames = []
    for frame in cover:
        bend = sum(
            rng.normal(0, strength) * np.cos(folds * angle + rng.uniform(0, 2 * np.pi))
            for folds in (2, 3, 4, 5, 6)
        )
        at = far / (1 + bend)
        row = np.clip(32 + at * np.sin(angle), 0, 63).astype(int)
        column = np.clip(32 + at * np.cos(angle), 0, 63).astype(int)
        frames.append(255 - frame[row, column][..., None] * np.float32([155, 155, 155]))
    return np.stack(frames).astype(np.uint8)


@pytest.mark.parametrize("name", names.SHAPES)
def test_a_dented_outline_is_still_seen_as_what_it_is(scenes: ModuleType, name: str) -> None:
    said = Counter(
        judge.look(dented(scenes, name, 0.05, seed)).things[0].shape for seed in range(12)
    )
    assert said == {name: 12}


def test_half_way_between_round_and_square_is_where_the_word_changes() -> None:
    """Of corners cut ever more, the first are called square and the last a ball."""
    ys, xs = np.mgrid[:64, :64] + 0.5 - 32
    said = []
    for cut in np.linspace(0, 1, 21):
        power = 2 + 14 * (1 - cut) ** 3  # a superellipse: 2 is a circle
        inside = (np.abs(xs) ** power + np.abs(ys) ** power) <= 14**power
        clip = np.full((16, 64, 64, 3), 255, np.uint8)
        clip[:, inside] = (40, 90, 220)
        said.append(judge.look(clip).things[0].shape)
    assert said[:5] == ["square"] * 5
    assert said[-5:] == ["ball"] * 5
    assert said == sorted(said, reverse=True)  # it changes once
