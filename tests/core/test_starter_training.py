"""The starter's training: words, restarts, and a folder that the pipeline takes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from core.engines.local import folders, unknown
from core.judge import asked

PLACE = Path(__file__).resolve().parents[2] / "packaging" / "starter"
NAMES = (
    *("scenes", "words", "parts", "team", "runs", "pool"),
    *("shapes", "stage_vae", "stage_diffusion", "card", "export"),
)


@pytest.fixture(scope="module")
def kit():
    """The training's modules, which see each other by their short names."""
    sys.path.insert(0, str(PLACE))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path.remove(str(PLACE))
        for name in NAMES:
            sys.modules.pop(name, None)


def test_a_seed_gives_the_same_scenes_and_words(kit: SimpleNamespace) -> None:
    def made(seed: int):
        rng = np.random.default_rng(seed)
        found = [kit.scenes.draw(rng) for _ in range(5)]
        clips = [kit.scenes.render(scene, 8) for scene in found]
        return found, [kit.words.caption(scene, rng) for scene in found], np.stack(clips)

    first, again, other = made(1), made(1), made(2)
    assert first[:2] == again[:2]
    assert np.array_equal(first[2], again[2])
    assert first[0] != other[0]


def test_training_never_draws_what_is_kept_for_judging(kit: SimpleNamespace) -> None:
    rng = np.random.default_rng(3)
    assert not any(kit.scenes.draw(rng).held_out for _ in range(300))
    assert all(kit.scenes.draw(rng, kept=True).held_out for _ in range(20))


def test_every_word_asked_for_is_known_whole(kit: SimpleNamespace) -> None:
    known = kit.stage_diffusion.vocabulary()[0]
    for objects in (1, 2):
        for number in range(120):
            for word in kit.words.pieces(asked.draw(1, number, objects=objects).prompt):
                assert word + "</w>" in known, word


def test_our_numbers_for_words_are_the_tokenizer_s(kit: SimpleNamespace, tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    kit.export.write_tokenizer(tmp_path)
    real = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer", local_files_only=True)
    ours = kit.words.Tokens(*kit.stage_diffusion.vocabulary(), kit.parts.TOKENS)
    rng = np.random.default_rng(4)
    texts = [kit.words.caption(kit.scenes.draw(rng), rng) for _ in range(200)]
    texts += ["", "A Red BALL, moves left!", "an elephant"]
    theirs = real(texts, padding="max_length", truncation=True)["input_ids"]
    for text, numbers in zip(texts, theirs, strict=True):
        assert ours(text) == numbers, text


def test_unknown_words_are_named(kit: SimpleNamespace, tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    kit.export.write_tokenizer(tmp_path)
    real = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer", local_files_only=True)
    text = "A Red ball, an elephant and a DRAGON; elephant 3"
    assert unknown.unknown_words(real, text) == ("elephant", "dragon")
    assert unknown.unknown_words(real, "a red ball bounces on a green field") == ()
    large = SimpleNamespace(get_vocab=lambda: dict.fromkeys(map(str, range(unknown.SMALL))))
    assert unknown.unknown_words(large, text) == ()


@pytest.fixture
def small(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The same training, with next to nothing to learn from."""
    import torch

    from core.engines.local.quiet import hush

    hush()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for module, name, value in (
        (kit.stage_vae, "STEPS", 2),
        (kit.stage_vae, "BATCH", 2),
        (kit.stage_vae, "CENTRED_BY", 4),
        (kit.stage_diffusion, "IMAGES", 2),
        (kit.stage_diffusion, "CLIPS", 2),
        (kit.stage_diffusion, "BESIDE", 2),
        (kit.stage_diffusion, "CHUNKS", 2),
        (kit.stage_diffusion, "ENDS_STEPS", 0),
        (kit.stage_diffusion, "SHAPES_FROM", 0),
        (kit.stage_diffusion, "FINISH_FROM", 1),
        (kit.stage_diffusion, "FINISH_CLIPS", 1),
        (kit.stage_diffusion, "FINISH_BESIDE", 2),
        (kit.shapes, "DRAWN_CLIPS", 2),
        (kit.shapes, "CHUNKS", 2),
        (kit.shapes, "READER_STEPS", 2),
        (kit.shapes, "DRAWN", 2),
        (kit.pool, "CLIPS", 3),
    ):
        monkeypatch.setattr(module, name, value)
    yield kit
    torch.set_num_threads(before)


def test_it_trains_goes_on_and_writes_a_model_that_runs(
    small: SimpleNamespace, tmp_path: Path
) -> None:
    import torch

    from core.engines.local import fidelity

    work, out = tmp_path / "work", tmp_path / "model"
    work.mkdir()
    small.stage_vae.train(work)
    small.stage_diffusion.train_images(work, 2)
    small.shapes.train_reader(work)
    small.stage_diffusion.train_clips(work, 1)
    first = small.runs.average_of(work / "clip.pt", "unet")
    small.stage_diffusion.train_clips(work, 2)
    assert small.runs.told_of(work / "clip.pt")[0] == 2
    second = small.runs.average_of(work / "clip.pt", "unet")
    assert any(not torch.equal(first[key], second[key]) for key in first)

    small.export.export(work, out)
    found = folders.check(out)
    assert sum(path.stat().st_size for path in out.rglob("*")) < 16_000_000
    assert found.pipeline == "AnimateDiffPipeline"
    assert "trained from nothing" in (out / "README.md").read_text(encoding="utf-8")
    maker = fidelity.Maker(out, {"steps": 2, "frames": 8})
    try:
        clip = maker.clip("a red ball moves left", 1)
        assert clip.shape == (8, 64, 64, 3)
        assert np.array_equal(clip, maker.clip("a red ball moves left", 1))
        assert maker.clip("", 1, frames=11).shape[0] == 11
    finally:
        maker.close()


def test_latents_are_centred_and_pictures_stay(small: SimpleNamespace) -> None:
    import torch

    vae = small.parts.make_vae().eval()
    pictures = small.stage_vae.batch(0, 8)[0]
    with torch.no_grad():
        before = vae.decode(vae.encode(pictures).latent_dist.mean).sample
        small.parts.centre(vae, pictures)
        means = vae.encode(pictures).latent_dist.mean
        after = vae.decode(means).sample
    assert means.mean((0, 2, 3)).abs().max() < 1e-3
    assert (means.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert (before - after).abs().max() < 1e-2


def test_the_reader_of_shapes_teaches_words_and_pictures(
    kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    monkeypatch.setattr(kit.shapes, "DRAWN", 4)
    torch.manual_seed(0)
    torch.save(kit.shapes.make_reader().state_dict(), tmp_path / "shapes.pt")
    signal, noise = torch.linspace(1, 0, 1000), torch.linspace(0, 1, 1000)
    shown = kit.shapes.Shown(tmp_path, signal, noise)
    known, merges = kit.stage_diffusion.vocabulary()
    numbers = kit.words.Tokens(known, merges, kit.parts.TOKENS)
    unet, text = kit.parts.make_unet(), kit.parts.make_text(len(known))

    def tokens(texts):
        return torch.tensor([numbers(one) for one in texts])

    moving = kit.parts.with_motion(unet, kit.parts.make_motion())
    for drawn in (
        shown.loss(moving, text, tokens, draw=1, frames=3),
        shown.loss(unet, text, tokens, draw=1),
    ):
        drawn.backward()
        assert 0.1 < float(drawn.detach()) < 10
    words = text.get_input_embeddings().weight.grad
    assert float(words.abs().sum()) > 0
    assert float(unet.conv_out.weight.grad.abs().sum()) > 0
    texts, wanted = kit.shapes._asked(1, 6, clip=False)
    for one, shape in zip(texts, wanted, strict=True):
        ways = kit.words.SHAPE_WORDS[kit.scenes.SHAPES[shape]]
        assert any(way in one for way in ways), one


@pytest.mark.skipif(sys.platform == "win32", reason="members are forked")
def test_members_have_the_mean_after_they_met(kit: SimpleNamespace) -> None:
    import torch

    before = torch.get_num_threads()
    weights = [torch.zeros(2, 3), torch.zeros(4)]

    def work(team) -> None:
        for part in weights:
            part.add_(team.place)
        team.meet(weights)
        weights[0].mul_(2 + team.place)
        team.meet(weights)

    work(kit.team.gather(2, weights, work))
    torch.set_num_threads(before)
    assert torch.equal(weights[0], torch.full((2, 3), 1.25))
    assert torch.equal(weights[1], torch.full((4,), 0.5))
