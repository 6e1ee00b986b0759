"""Workflows on the command line: listed from files, run on a stand-in over HTTP and socket."""

from __future__ import annotations

import dataclasses
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from app.queue_cli import main as queue
from core.engines.comfy import workflows_files
from core.engines.comfy.http import Server
from core.engines.comfy.standin.script import Script
from core.jobs import JobState
from core.ledger import Ledger, wishes
from core.outputs import read_recipe
from core.places import Places
from core.queue import Group
from core.settings import Settings
from core.settings import save as save_settings
from tests.app.test_cli import ended_by_ctrl_c, framedeck, sampling
from tests.comfy.standin import Running, running

PICTURE = ["--recipe", "comfy-sd15-image", "--prompt", "a koi", "--steps", "3"]
SMALL = ["--width", "64", "--height", "64"]


def know(home: Path, *servers: dict[str, Any]) -> Places:
    places = Places.find(home).make()
    save_settings(places.settings, Settings(servers=list(servers)))
    return places


def own_workflow(places: Places) -> str:
    """Keep a workflow of the person's own; return its recipe."""
    made = {one.id: one for one in workflows_files.built_in()}["sd15-image"]
    kept = dataclasses.replace(made, id="my-koi", title="My koi", own=True)
    workflows_files.save(places.workflows, kept)
    return "comfy-my-koi"


def test_recipes_lists_what_ships_and_what_is_kept_without_any_server(home: Path) -> None:
    places = know(home, {"base": "http://127.0.0.1:1", "title": "Second box"})
    own_workflow(places)
    (places.workflows / "torn.json").write_text("{")
    done = framedeck("recipes", "--json")
    assert done.returncode == 0, done.stderr
    found = {one["id"]: one for one in json.loads(done.stdout)}
    shipped = [f"comfy-{one.id}" for one in workflows_files.built_in()]
    assert list(found) == ["starter", "starter-dream", "test-pattern", *shipped, "comfy-my-koi"]
    assert {found[one]["engine"] for one in shipped} == {"comfy"}
    assert found["starter"]["engine"] == "local"
    assert (found["comfy-my-koi"]["title"], found["comfy-my-koi"]["makes"]) == ("My koi", "image")
    assert found["comfy-wan21-t2v"]["parameters"]["frames"]["multiple"] == 4
    assert found["comfy-wan21-t2v"]["parameters"]["server"]["choices"] == ["http://127.0.0.1:1"]
    assert "torn" in done.stderr or "JSON" in done.stderr
    words = framedeck("recipes").stdout
    assert "comfy-my-koi: My koi" in words
    assert "Runs on a ComfyUI server (engine: comfy)." in words
    assert "Second box (http://127.0.0.1:1)" in words


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with running(tmp_path / "comfy", Script(step_seconds=0.02)) as found:
        yield found


def test_generate_makes_a_picture_on_the_first_known_server(
    home: Path, tmp_path: Path, server: Running
) -> None:
    places = know(home, {"base": server.url}, {"base": "http://127.0.0.1:1", "title": "Away"})
    recipe = own_workflow(places)
    out = tmp_path / "koi.png"
    done = framedeck(
        "generate", "--recipe", recipe, *PICTURE[2:], *SMALL, "--out", str(out), "--json"
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["path"], facts["engine"], facts["width"]) == (str(out), "comfy", 64)
    assert out.stat().st_size > 1_000
    job = read_recipe(out)["job"]
    assert job["params"]["server"] == server.url
    # The server's own list has other names than the workflow's.
    assert (
        job["params"]["checkpoint"]
        in Server(server.url).object_info()["CheckpointLoaderSimple"]["input"]["required"][
            "ckpt_name"
        ][0]
    )
    ledger = Ledger.open(places.ledger)
    rows = ledger.rows(list(ledger.ids(Group.FINISHED)))
    ledger.close()
    assert [(row.state, row.job.made_with) for row in rows] == [(JobState.DONE, "My koi")]


def test_a_server_is_named_by_its_title_or_by_an_address_that_is_not_known(
    home: Path, tmp_path: Path, server: Running
) -> None:
    know(home, {"base": "http://127.0.0.1:1"}, {"base": server.url, "title": "Second box"})
    for named in ("second box", server.url.removeprefix("http://")):
        out = tmp_path / f"{len(named)}.png"
        done = framedeck("generate", *PICTURE, *SMALL, "--server", named, "--out", str(out))
        assert done.returncode == 0, done.stderr
        assert out.stat().st_size > 1_000


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (PICTURE, 2, ["none is known", "--server http://"]),
        ([*PICTURE, "--server", "ftp://x"], 2, ["not the address of a server"]),
        ([*PICTURE, "--server", "127.0.0.1:1"], 1, ["127.0.0.1:1", "Check that it runs"]),
        # Refused before any server is asked.
        ([*PICTURE, "--server", "127.0.0.1:1", "--width", "65"], 2, ["multiple of 8"]),
        ([*PICTURE, "--server", "127.0.0.1:1", "--out", "a.mp4"], 2, ["does not end in .png"]),
        (["--prompt", "x", "--server", "127.0.0.1:1"], 2, ["starter runs on this machine"]),
        (["--recipe", "comfy-gone"], 2, ["not known", "comfy-wan21-t2v"]),
    ],
)
def test_what_cannot_run_says_why(home: Path, args: list[str], code: int, words: list[str]) -> None:
    done = framedeck("generate", *args)
    assert done.returncode == code, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "ledger.sqlite").exists()


def test_what_a_server_lacks_is_told_before_anything_is_sent(home: Path, server: Running) -> None:
    done = framedeck(
        "generate", *PICTURE, "--server", server.url, "--set", "checkpoint=gone.safetensors"
    )
    assert done.returncode == 1
    assert "gone.safetensors is not on the server" in done.stderr
    assert "checkpoints" in done.stderr
    assert not Server(server.url).queue().pending
    with urllib.request.urlopen(f"{server.url}/history") as answer:
        assert json.load(answer) == {}


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to one process is POSIX")
def test_ctrl_c_takes_the_prompt_off_the_server(home: Path, tmp_path: Path) -> None:
    with running(tmp_path / "comfy", Script(step_seconds=0.2)) as server:
        slow = ["--recipe", "comfy-sd15-image", "--prompt", "a koi", "--steps", "100"]
        with sampling(*slow, *SMALL, "--server", server.url) as process:
            assert "Stopped" in ended_by_ctrl_c(process)
        assert not Server(server.url).queue().running


def test_draining_without_a_window_asks_the_servers_themselves(
    home: Path,
    server: Running,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = "http://127.0.0.1:1"
    know(home, {"base": server.url, "title": "Near"}, {"base": away, "title": "Far"})
    asked: list[str] = []
    monkeypatch.setattr(server.server.backlog, "flag", asked.append)

    def drain(*more: str) -> dict[str, Any]:
        assert queue(["pause", "--drain", "--json", "--home", str(home), *more]) == 0
        return dict(json.loads(capsys.readouterr().out))

    told = drain("--engine", "near")
    assert told["freed"] == {server.url: "gives its memory back now"}
    assert asked == ["unload_models", "free_memory"]
    told = drain()
    assert told["freed"][away].startswith("could not be asked to give memory back: ")
    assert told["freed"][server.url] == "gives its memory back now"
    ledger = Ledger.open(Places.find(home).ledger)
    wishes.announce(ledger.store)  # A window is open: it does so, and knows what runs.
    ledger.close()
    asked.clear()
    assert "freed" not in drain("--engine", "near")
    assert asked == []
