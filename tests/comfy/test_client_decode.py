"""Decodes that stand still or run out of memory: tried again more gently, never sampled again."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from core.engines.comfy.answers import Remote
from core.engines.comfy.client import ComfyEngine
from core.engines.comfy.http import Server
from core.engines.comfy.latents import remove, whole
from core.engines.comfy.parts import Part, Parts
from core.engines.comfy.reconcile import client_of
from core.engines.comfy.rescue import Watch
from core.engines.comfy.standin.nodes import SLEEP
from core.engines.comfy.standin.script import Script
from core.errors import Category, Problem, ProblemError
from core.events import Event, Failed, Finished, NodeStarted, Noted, Stopped
from core.jobs import Job
from core.statistics.classify import Limits, Sign
from tests.comfy import recorded
from tests.comfy.client_bench import drain, engine, job
from tests.comfy.standin import Running, running, trivial

QUICK = Limits(quiet_seconds=0.5, soonest_seconds=0.3, stuck_seconds=0.6)
SEEDS = itertools.count(1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "server", Script(step_seconds=0.01)) as made:
        yield made


def picture(size: int = 128) -> dict[str, Any]:
    """A graph with a sampler and a decode, unlike any before."""
    found = {
        name: {"class_type": node["class_type"], "inputs": dict(node["inputs"])}
        for name, node in recorded.exchanges("01")[0]["json"]["prompt"].items()
    }
    found["3"]["inputs"] |= {"steps": 3, "seed": next(SEEDS)}
    for node in found.values():
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"] |= {"width": size, "height": size}
    return found


def signs(utilisation: float, cpu: float = 1.0) -> tuple[Sign, ...]:
    """A second of readings."""
    now = time.monotonic()
    return tuple(
        Sign(now - 0.05 * back, utilisation_percent=utilisation, power_watts=60, cpu_percent=cpu)
        for back in range(20, -1, -1)
    )


def watch(utilisation: float | None = 0.0, interrupt_seconds: float = 0.4) -> Watch:
    def read() -> tuple[Sign, ...]:
        return () if utilisation is None else signs(utilisation)

    return Watch(read, lambda _: 0.2, QUICK, interrupt_seconds)


def run(comfy: ComfyEngine, what: Job) -> tuple[list[Event], str]:
    """Run a job; return its events and all it noted."""
    seen = drain(comfy.run(what))
    return seen, "\n".join(event.text for event in seen if isinstance(event, Noted))


def samplings(seen: list[Event]) -> int:
    return sum(isinstance(event, NodeStarted) and event.title == "KSampler" for event in seen)


def decodes(seen: list[Event]) -> list[str]:
    titles = [event.title for event in seen if isinstance(event, NodeStarted)]
    return [title for title in titles if "VAEDecode" in title]


def posts(server: Running, what: Job) -> list[int]:
    """How often each part of the job was sent, in the order of their first time."""
    parts = Parts(what, json.loads(str(what.params["graph"])), checkpoint=True)
    ours = {what.id, *parts.later()}
    return [count for name, count in server.server.posted.items() if name in ours]


def kept(server: Running) -> list[str]:
    return sorted(path.name for path in (server.server.shelf.folder / "output/latents").glob("*"))


def recipe_of(ending: Event) -> dict[str, Any]:
    assert isinstance(ending, Finished), ending
    return json.loads(Path(ending.output.recipe).read_text())


# --- out of memory


def test_a_decode_without_memory_is_done_in_tiles(server: Running, tmp_path: Path) -> None:
    server.faults.arm("out_of_memory", node="VAEDecode", times=1)
    comfy = engine(server.url)
    what = job(tmp_path, picture())
    seen, told = run(comfy, what)
    graph = recipe_of(seen[-1])["graph"]
    assert [node["class_type"] for node in graph.values()].count("VAEDecodeTiled") == 1
    assert posts(server, what) == [1, 1]
    assert samplings(seen) == 1, "the server has it in its cache"
    assert "Before the next try: " in told
    assert "decodes what its cache still holds in tiles." in told
    comfy.close()


def test_tiles_that_are_too_large_become_small_ones_and_then_it_fails(
    server: Running, tmp_path: Path
) -> None:
    server.faults.arm("out_of_memory", node="VAEDecode")
    server.faults.arm("out_of_memory", node="VAEDecodeTiled")
    comfy = engine(server.url)
    what = job(tmp_path, picture())
    seen, told = run(comfy, what)
    ending = seen[-1]
    assert isinstance(ending, Failed)
    assert ending.problem.category is Category.INSUFFICIENT_VRAM
    assert posts(server, what) == [1, 1, 1]
    assert samplings(seen) == 1
    assert "in small tiles." in told
    assert not list(tmp_path.glob("clips/*"))
    comfy.close()


def test_tiles_of_the_user_are_left_and_told_as_full(server: Running, tmp_path: Path) -> None:
    graph = picture()
    own = {"tile_size": 256, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}
    graph["8"] = {"class_type": "VAEDecodeTiled", "inputs": {**graph["8"]["inputs"], **own}}
    server.faults.arm("out_of_memory", node="VAEDecodeTiled")
    comfy = engine(server.url)
    what = job(tmp_path, graph)
    seen, _ = run(comfy, what)
    assert isinstance(seen[-1], Failed)
    assert posts(server, what) == [1]
    comfy.close()


def test_memory_that_is_full_while_sampling_is_not_tried_again(
    server: Running, tmp_path: Path
) -> None:
    server.faults.arm("out_of_memory", node="KSampler")
    comfy = engine(server.url, checkpoint=True)
    what = job(tmp_path, picture())
    seen, told = run(comfy, what)
    assert isinstance(seen[-1], Failed)
    assert posts(server, what) == [1]
    assert told == ""
    comfy.close()


# --- the checkpoint


@pytest.mark.parametrize("seen_from_here", [True, False])
def test_latents_are_kept_and_removed_or_told(
    server: Running, tmp_path: Path, seen_from_here: bool
) -> None:
    folder = server.server.shelf.folder / "output"
    comfy = engine(server.url, checkpoint=True, shared=folder if seen_from_here else None)
    what = job(tmp_path, picture())
    seen, told = run(comfy, what)
    recipe = recipe_of(seen[-1])
    assert recipe["graph"] == json.loads(str(what.params["graph"])), "one graph for a person"
    assert posts(server, what) == [1, 1]
    assert samplings(seen) == 1
    assert len(list(tmp_path.glob("clips/*.png"))) == 1
    if seen_from_here:
        assert kept(server) == []
        assert "were removed" in told
    else:
        assert len(kept(server)) == 1
        assert f"The server keeps latents/{kept(server)[0]}, which is not needed any more." in told
    comfy.close()


def test_a_job_says_itself_whether_it_wants_a_checkpoint(server: Running, tmp_path: Path) -> None:
    comfy = engine(server.url, checkpoint=True)
    what = job(tmp_path, picture(), latent_checkpoint=False)
    run(comfy, what)
    assert posts(server, what) == [1]
    other = job(tmp_path, trivial(7))
    assert isinstance(run(comfy, other)[0][-1], Finished), "nothing is decoded in it"
    comfy.close()


def test_a_kept_latent_is_decoded_in_tiles_when_memory_is_full(
    server: Running, tmp_path: Path
) -> None:
    server.faults.arm("out_of_memory", node="VAEDecode", times=1)
    comfy = engine(server.url, checkpoint=True)
    what = job(tmp_path, picture())
    seen, told = run(comfy, what)
    assert isinstance(seen[-1], Finished)
    assert posts(server, what) == [1, 1, 1]
    assert (samplings(seen), decodes(seen)) == (1, ["VAEDecode", "VAEDecode"])
    assert "decodes the latents that it keeps in tiles." in told
    comfy.close()


@pytest.mark.parametrize("restart", [False, True])
def test_a_retry_goes_on_from_the_latents(server: Running, tmp_path: Path, restart: bool) -> None:
    server.faults.arm("error", node="VAEDecode", times=1)
    comfy = engine(server.url, checkpoint=True)
    what = job(tmp_path, picture())
    seen, told = run(comfy, what)
    ending = seen[-1]
    assert isinstance(ending, Failed)
    assert ending.problem.hint.startswith("Retry the job: it goes on from the latents")
    assert f"The server keeps the latents in latents/{kept(server)[0]}." in told
    assert posts(server, what) == [1, 1]
    if restart:
        server.restart()
    seen, told = run(comfy, what)
    assert isinstance(seen[-1], Finished)
    assert samplings(seen) == 0
    assert posts(server, what) == [1, 2]
    assert ("nothing is sampled again" in told) == restart
    comfy.close()


def test_latents_cut_short_are_sampled_anew(server: Running, tmp_path: Path) -> None:
    what = job(tmp_path, picture())
    parts = Parts(what, json.loads(str(what.params["graph"])), checkpoint=True)
    lie = parts.expect()[0]
    path = server.server.shelf.folder / "output" / lie.subfolder / lie.filename
    path.parent.mkdir(parents=True)
    path.write_bytes(
        bytes([40, 0, 0, 0, 0, 0, 0, 0]) + b'{"latent_tensor":{"data_offsets":[0,99]}}'
    )
    asked = Server(server.url)
    assert not whole(asked, lie)
    asked.close()
    comfy = engine(server.url, checkpoint=True)
    seen, _ = run(comfy, what)
    assert isinstance(seen[-1], Finished)
    assert samplings(seen) == 1
    assert posts(server, what) == [1, 1]
    assert len(kept(server)) == 2, "another one was written beside it"
    comfy.close()


def test_latents_that_went_away_are_told_and_sampled_anew_by_a_retry(
    server: Running, tmp_path: Path
) -> None:
    server.faults.arm("gone", times=1)
    comfy = engine(server.url, checkpoint=True)
    what = job(tmp_path, picture())
    seen, _ = run(comfy, what)
    assert isinstance(seen[-1], Failed)
    assert "did not keep the latents" in seen[-1].problem.message
    assert posts(server, what) == [1]
    requests.post(server.url + "/free", json={"free_memory": True}, timeout=5)
    seen, _ = run(comfy, what)
    assert isinstance(seen[-1], Finished)
    assert posts(server, what) == [2, 1]
    comfy.close()


# --- a later start of the program


def send(server: Running, what: Job, part: Part) -> None:
    body = {"prompt": part.graph, "prompt_id": part.prompt, "client_id": client_of(what.id)}
    requests.post(server.url + "/prompt", json=body, timeout=5).raise_for_status()


def until_ended(server: Running, prompt: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = requests.get(f"{server.url}/history/{prompt}", timeout=5).json()
        if found:
            return found[prompt]
        time.sleep(0.02)
    raise AssertionError("it did not end")


@pytest.mark.parametrize("decode", ["not sent", "runs", "ended", "failed"])
def test_a_later_start_takes_the_parts_over(server: Running, tmp_path: Path, decode: str) -> None:
    what = job(tmp_path, picture())
    parts = Parts(what, json.loads(str(what.params["graph"])), checkpoint=True)
    send(server, what, parts.first())
    assert parts.took(until_ended(server, what.id)["outputs"])
    if decode == "failed":
        server.faults.arm("out_of_memory", node="VAEDecode", times=1)
    if decode == "runs":
        server.faults.arm("hang", 0.6, node="VAEDecode", times=1)
    if decode != "not sent":
        send(server, what, parts.last())
    if decode in ("ended", "failed"):
        until_ended(server, parts.last().prompt)
    comfy = engine(server.url, checkpoint=True)
    seen = drain(comfy.resume(what))
    assert isinstance(seen[-1], Finished), seen[-1]
    assert samplings(seen) == 0
    assert posts(server, what) == ([1, 1, 1] if decode == "failed" else [1, 1])
    comfy.close()


# --- standing still


def restarting(server: Running, times: list[float], fail: bool = False) -> Callable[[], None]:
    def again(_: Any = None) -> None:
        times.append(time.monotonic())
        if fail:
            raise ProblemError(Problem(Category.WORKER_UNAVAILABLE, "No Python.", "Install it."))
        server.faults.disarm("hang")
        server.restart()

    return again


def test_a_decode_that_stands_still_is_interrupted_and_done_in_tiles(
    server: Running, tmp_path: Path
) -> None:
    server.faults.arm("hang", 1.6, node="VAEDecode", times=1)
    times: list[float] = []
    restart = restarting(server, times)
    comfy = engine(server.url, watch=watch(interrupt_seconds=5), restart=restart)
    what = job(tmp_path, picture())
    seen, told = run(comfy, what)
    recipe_of(seen[-1])
    assert "stands still in VAEDecode. Nothing was heard for " in told
    assert "It is interrupted." in told
    assert posts(server, what) == [1, 1]
    assert (samplings(seen), times) == (1, [])
    comfy.close()


def test_a_server_that_does_not_obey_is_restarted_and_decodes_what_it_kept(
    server: Running, tmp_path: Path
) -> None:
    server.faults.arm("hang", node="VAEDecode", times=1)
    times: list[float] = []
    restart = restarting(server, times)
    comfy = engine(server.url, watch=watch(), restart=restart, checkpoint=True)
    what = job(tmp_path, picture())
    seen, told = run(comfy, what)
    assert isinstance(seen[-1], Finished)
    assert posts(server, what) == [1, 1, 1]
    assert (samplings(seen), len(times)) == (1, 1)
    order = ["stands still", "does not obey", "is restarted", "answers again", "in tiles"]
    assert [told.index(words) for words in order] == sorted(told.index(words) for words in order)
    comfy.close()


def test_without_a_checkpoint_a_restart_ends_the_job(server: Running, tmp_path: Path) -> None:
    server.faults.arm("hang", node="VAEDecode", times=1)
    times: list[float] = []
    comfy = engine(server.url, watch=watch(), restart=restarting(server, times))
    what = job(tmp_path, picture())
    seen, _ = run(comfy, what)
    ending = seen[-1]
    assert isinstance(ending, Failed)
    assert ending.problem.category is Category.TIMEOUT
    assert "checkpoint" in ending.problem.hint
    assert (posts(server, what), len(times), ending.lost) == ([1], 1, False)
    assert isinstance(run(comfy, job(tmp_path, picture()))[0][-1], Finished), "it serves the next"
    comfy.close()


@pytest.mark.parametrize(
    ("restart", "foreign", "words"),
    [
        (False, False, "was not started from here"),
        (True, True, "1 prompt of somebody else waits"),
        ("fails", False, "No Python."),
    ],
)
def test_a_server_that_must_not_be_restarted_fails_the_job(
    server: Running, tmp_path: Path, restart: bool | str, foreign: bool, words: str
) -> None:
    server.faults.arm("hang", node="VAEDecode", times=1)
    times: list[float] = []
    again = restarting(server, times, restart == "fails") if restart else None
    comfy = engine(server.url, watch=watch(), restart=again, checkpoint=True)
    what = job(tmp_path, picture())
    events = comfy.run(what)
    seen = []
    for event in events:
        seen.append(event)
        if foreign and isinstance(event, NodeStarted) and event.title == "VAEDecode":
            foreign = False
            other = server.submit(trivial(77))
    ending = seen[-1]
    assert isinstance(ending, Failed)
    assert "cannot be interrupted" in ending.problem.message
    assert words in ending.problem.message
    assert ending.problem.hint
    assert posts(server, what) == [1, 1]
    assert len(times) == (restart == "fails")
    server.faults.disarm("hang")
    if words.startswith("1 prompt"):
        assert until_ended(server, other)["status"]["completed"]
    comfy.close()


@pytest.mark.parametrize("utilisation", [95.0, None])
def test_a_slow_decode_is_left_alone(
    server: Running, tmp_path: Path, utilisation: float | None
) -> None:
    """A GPU at work, or one that nobody can look at, is never taken to stand still."""
    server.faults.arm("hang", 1.8, node="VAEDecode", times=1)
    times: list[float] = []
    comfy = engine(server.url, watch=watch(utilisation), restart=restarting(server, times))
    what = job(tmp_path, picture())
    seen, told = run(comfy, what)
    assert isinstance(seen[-1], Finished)
    assert (posts(server, what), told, times) == ([1], "", [])
    comfy.close()


def test_a_node_that_is_no_decoder_is_left_alone(server: Running, tmp_path: Path) -> None:
    graph = trivial(5)
    slow = {"image": ["1", 0], "seconds": 1.8, "steps": 0, "tag": next(SEEDS)}
    graph["3"] = {"class_type": SLEEP, "inputs": slow}
    graph["2"]["inputs"]["images"] = ["3", 0]
    comfy = engine(server.url, watch=watch())
    seen, told = run(comfy, job(tmp_path, graph))
    assert isinstance(seen[-1], Finished)
    assert "stands still" not in told
    comfy.close()


def test_a_cancel_ends_a_decode_that_stands_still(server: Running, tmp_path: Path) -> None:
    server.faults.arm("hang", node="VAEDecode", times=1)
    comfy = engine(server.url, watch=watch(interrupt_seconds=60), checkpoint=True)
    what = job(tmp_path, picture())
    seen = []
    for event in comfy.run(what):
        seen.append(event)
        if isinstance(event, Noted) and "It is interrupted" in event.text:
            began = time.monotonic()
            comfy.cancel(what.id)
    assert isinstance(seen[-1], Stopped)
    assert time.monotonic() - began < 2
    assert "keeps the latents" in seen[-2].text  # type: ignore[union-attr]
    server.faults.disarm("hang")
    comfy.close()


# --- small things


@pytest.mark.parametrize(
    ("subfolder", "name"),
    [
        ("..", "framedeck-a_00001_.latent"),
        ("latents", "../../framedeck-a_00001_.latent"),
        ("latents", "clip.mp4"),
        ("latents", "other_00001_.latent"),
        ("/etc", "framedeck-a_00001_.latent"),
        ("latents", "framedeck-link_00001_.latent"),
    ],
)
def test_nothing_but_our_latents_is_removed(tmp_path: Path, subfolder: str, name: str) -> None:
    shared = tmp_path / "output"
    (shared / "latents").mkdir(parents=True)
    for place in (tmp_path, shared, shared / "latents"):
        for file in ("framedeck-a_00001_.latent", "clip.mp4", "other_00001_.latent"):
            (place / file).write_text("precious")
    (shared / "latents/framedeck-link_00001_.latent").symlink_to(tmp_path / "clip.mp4")
    before = sorted(tmp_path.rglob("*"))
    assert not remove(shared, Remote("1", "latents", name, subfolder, "output"))
    assert sorted(tmp_path.rglob("*")) == before
    assert remove(shared, Remote("1", "latents", "framedeck-a_00001_.latent", "latents", "output"))


def test_ids_of_parts_are_their_own_and_stay(tmp_path: Path) -> None:
    what, graph = job(tmp_path), picture()
    parts = Parts(what, graph, checkpoint=True)
    ids = [what.id, *parts.later()]
    assert len(set(ids)) == len(ids) == 6
    assert parts.later() == Parts(what, graph, checkpoint=True).later()
    assert not set(parts.later()) & set(Parts(job(tmp_path), graph, checkpoint=True).later())
    # A server's word on where the latents lie is taken only for a file of that name.
    (node,) = parts.first().graph.keys() - graph.keys()
    for name in ("../x.latent", "x.latent", parts.expect()[0].filename.replace("-", "-../", 1)):
        parts.begin_anew()
        assert not parts.took({node: {"latents": [{"filename": name, "subfolder": ""}]}})
