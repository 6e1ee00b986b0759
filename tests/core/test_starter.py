"""The starter model: same bytes every time, whole or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from core.engines.local import folders, preview, starter

MAKE = """
import sys, time
from pathlib import Path
from core.engines.local import starter

def told(done, total, word):
    print(word, flush=True)
    time.sleep(float(sys.argv[2]))

print(starter.ensure(Path(sys.argv[1]), told), flush=True)
"""


def start(folder: Path, pause: float = 0.0) -> subprocess.Popen[str]:
    """Start a process that makes the model, resting before each part."""
    command = [sys.executable, "-c", MAKE, str(folder), str(pause)]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / starter.folder_name()
    assert starter.ensure(folder)
    return folder


def test_it_is_a_sound_model_of_the_real_classes(made: Path) -> None:
    found = folders.check(made)
    assert found.pipeline == "AnimateDiffPipeline"
    assert dict(found.classes) == {
        "unet": "UNet2DConditionModel",
        "motion_adapter": "MotionAdapter",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
    }


def test_it_is_small(made: Path) -> None:
    assert sum(path.stat().st_size for path in made.rglob("*")) < 16_000_000


def test_making_it_takes_seconds(tmp_path: Path) -> None:
    begun = time.monotonic()
    starter.build(tmp_path / "model")
    assert time.monotonic() - begun < 5.0


def test_another_process_makes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    other = tmp_path / starter.folder_name()
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONHASHSEED="7")
    command = [sys.executable, "-c", MAKE, str(other), "0"]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    assert digests(other) == digests(made)


def test_a_sound_model_is_left_alone(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert not starter.ensure(made)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_a_damaged_model_is_made_again(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / starter.folder_name()
    starter.ensure(folder)
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert starter.ensure(folder)
    assert digests(folder) == digests(made)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_killed_while_making_leaves_no_half_model(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / starter.folder_name()
    with start(folder, pause=20.0) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "text_encoder"
        process.send_signal(signal.SIGKILL)
    assert not folder.exists()
    drafts = list(tmp_path.iterdir())
    assert len(drafts) == 1
    old = time.time() - 2 * starter.STALE_SECONDS
    os.utime(drafts[0], (old, old))
    assert starter.ensure(folder)
    assert digests(folder) == digests(made)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_two_processes_at_once(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / starter.folder_name()
    with start(folder, 0.2) as one, start(folder, 0.2) as other:
        answers = [one.communicate()[0], other.communicate()[0]]
    assert one.returncode == other.returncode == 0
    assert any(answer.splitlines()[-1] == "True" for answer in answers)
    assert digests(folder) == digests(made)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_cancel_while_making_leaves_nothing(tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def told(done: int, total: int, word: str) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        starter.ensure(tmp_path / starter.folder_name(), told)
    assert list(tmp_path.iterdir()) == []


def test_the_tokenizer_writes_any_text(made: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(made / "tokenizer", local_files_only=True)
    words = json.loads(starter.recipe_bytes())["words"]
    assert [word for word in words if len(tokenizer(word).input_ids) != 3] == []
    known = tokenizer("a red ball bounces on a green field").input_ids
    assert len(known) == 8 + 2
    assert [known[0], known[-1]] == [tokenizer.bos_token_id, tokenizer.eos_token_id]
    for text in ("Zebra, 3 quick-brown foxes!", "ein grüner Ball", "赤いボール 🎈", "\x00\x7f"):
        numbers = tokenizer(text).input_ids
        assert tokenizer.eos_token_id not in numbers[1:-1]
    assert tokenizer("🎈").input_ids != tokenizer("赤").input_ids


def test_its_pictures_are_colourful(made: Path) -> None:
    import torch
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(made / "vae", local_files_only=True)
    latents = torch.randn((4, 4, 8, 8), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        pictures = vae.decode(latents).sample
    assert pictures.shape == (4, 3, 64, 64)
    assert pictures.mean(dim=(0, 2, 3)).abs().max() < 0.25
    assert pictures.std(dim=(0, 2, 3)).min() > 0.3


def test_fitted_colours_are_better_than_grey(made: Path) -> None:
    import torch
    import torch.nn.functional as functional
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(made / "vae", local_files_only=True)
    colours = preview.read(made)
    assert colours is not None
    latents = torch.randn((1, 4, 6, 2, 2), generator=torch.Generator().manual_seed(9))
    latents = latents.repeat_interleave(4, dim=3).repeat_interleave(4, dim=4)
    with torch.no_grad():
        decoded = vae.decode(latents[0].transpose(0, 1)).sample
    seen = functional.adaptive_avg_pool2d(decoded, (8, 8)).permute(0, 2, 3, 1).numpy()
    guess = colours.pixels(latents)[..., 2::-1].astype(np.float64) / 127.5 - 1
    error = np.square(guess - seen).mean()
    grey = np.square(seen - seen.mean(axis=(0, 1, 2))).mean()
    assert error < grey
