"""Known servers: addresses come out in one form, bad values name their field."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import settings
from core.engines.comfy.arguments import ARGUMENTS, check, example, join, split
from core.engines.comfy.known import KnownServer, load
from core.errors import ProblemError

HERE = "http://127.0.0.1:8188"


@pytest.mark.parametrize(
    ("written", "base"),
    [
        ("http://127.0.0.1:8188", HERE),
        (" http://127.0.0.1:8188/ ", HERE),
        ("127.0.0.1:8188", HERE),
        ("127.0.0.1", HERE),
        ("HTTP://LocalHost:8188", "http://localhost:8188"),
        ("box.lan", "http://box.lan:8188"),
        ("[::1]", "http://[::1]:8188"),
        ("[::1]:8189", "http://[::1]:8189"),
        ("https://Art.example/Comfy/", "https://art.example/Comfy"),
        ("http://Me:Secret@Box:80", "http://box:80"),
    ],
)
def test_an_address_has_one_form(written: str, base: str) -> None:
    assert KnownServer.from_json({"base": written}).base == base
    assert KnownServer.from_json({"base": base}).base == base


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "base"),
        ({"base": ""}, "base"),
        ({"base": 5}, "base"),
        ({"base": "ftp://x"}, "base"),
        ({"base": "http://a b"}, "base"),
        ({"base": "http://x:99999"}, "base"),
        ({"base": "http://0.0.0.0:8188"}, "base"),
        ({"base": "http://x?y=1"}, "base"),
        ({"base": HERE, "title": 1}, "title"),
        ({"base": HERE, "folder": ["x"]}, "folder"),
        ({"base": HERE, "folder": "/a\0b"}, "folder"),
        ({"base": "http://box:8188", "folder": "/opt/ComfyUI"}, "folder"),
        ({"base": HERE, "keep_running": "yes"}, "keep_running"),
        ({"base": HERE, "arguments": "--lowvram"}, "arguments"),
        ({"base": HERE, "arguments": [1]}, "arguments"),
        ({"base": HERE, "arguments": ["--reserve-vram"]}, "arguments"),
        ({"base": HERE, "arguments": ["--port", "8189"]}, "arguments"),
    ],
)
def test_a_bad_value_names_its_field(values: dict[str, object], field: str) -> None:
    with pytest.raises(ProblemError) as told:
        KnownServer.from_json(values)
    assert told.value.problem.field == field
    assert told.value.problem.hint


def test_servers_come_back_from_the_settings(tmp_path) -> None:
    wanted = KnownServer(
        HERE, "Big card", "/opt/ComfyUI", "", ("--reserve-vram", "1.5"), "/out", keep_running=True
    )
    kept = replace(settings.Settings(), servers=[wanted.to_json()])
    settings.save(tmp_path / "s.json", kept)
    back, bad = settings.load(tmp_path / "s.json")
    assert bad == []
    assert load(back.servers) == ([wanted], [])


def test_one_bad_entry_costs_only_itself() -> None:
    rows = [{"base": HERE}, {"base": "nowhere at all"}, {"base": "127.0.0.1:8188"}, {"base": "a"}]
    servers, problems = load(rows)
    assert [server.base for server in servers] == [HERE, "http://a:8188"]
    assert [problem.field for problem in problems] == ["base"]
    assert load(["text"])[1][0].field == "servers"


def test_names_say_where_it_is() -> None:
    assert KnownServer(HERE).name == "ComfyUI :8188"
    assert KnownServer("http://box:8188").name == "ComfyUI box:8188"
    assert KnownServer(HERE, "Big card").name == "Big card"


@pytest.mark.parametrize(
    "line",
    [
        "--lowvram --reserve-vram 1.5 --preview-method latent2rgb",
        "--listen --disable-smart-memory",
        "--listen 0.0.0.0 --port 8188",
        "--cache-lru=5 --verbose DEBUG",
        "--fast fp16_accumulation cublas_ops --cpu-vae",
        "--use-quad-cross-attention --fp16-unet",
        "--some-later-thing 7 8 --lowvram",
        '--output-directory "/a folder/x"',
    ],
)
def test_good_arguments_pass(line: str) -> None:
    check(split(line), 8188)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("--lowvram --highvram", "exclude"),
        ("--reserve-vram much", "from 0 to 1000"),
        ("--reserve-vram", "needs a value"),
        ("--reserve-vram nan", "from 0"),
        ("--preview-method pretty", "latent2rgb"),
        ("--cache-lru 1.5", "whole number"),
        ("--port 70000", "65535"),
        ("--port 8189", "8189"),
        ("--lowvram 5", "takes no value"),
        ("--lowvram=yes", "takes no value"),
        ("--lowvarm", "--lowvram"),
    ],
)
def test_bad_arguments_are_told(line: str, word: str) -> None:
    with pytest.raises(ProblemError) as told:
        check(split(line), 8188)
    problem = told.value.problem
    assert problem.field == "arguments"
    assert word in f"{problem.message} {problem.hint}"


def test_every_argument_has_a_sentence_and_an_example_that_passes() -> None:
    for argument in ARGUMENTS:
        assert argument.help.endswith(".")
        line = example(argument).replace("--port 1", "--port 8188")
        check(split(line), 8188)
    assert len({argument.flag for argument in ARGUMENTS}) == len(ARGUMENTS)


def test_an_open_quote_is_told() -> None:
    with pytest.raises(ProblemError, match="quote"):
        split('--output-directory "/a')


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12), max_size=6))
def test_a_command_line_is_taken_apart_as_it_was_joined(words: list[str]) -> None:
    assert split(join(words)) == tuple(words)
