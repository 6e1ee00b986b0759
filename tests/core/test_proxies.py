"""Proxies in the environment that are none: told by their variable, and nothing of a password."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from app import update_cli
from app.fire_drill import _ended_well
from core.engine_env import download, planning
from core.engine_env.planning import Choice, Wheel
from core.engines.comfy.fetch import Fetcher as ServerFetcher
from core.engines.comfy.standin.process import StandInProcess
from core.errors import Category, Problem, ProblemError
from core.proxies import check_proxy, fault, scrubbed
from core.updates.fetch import Fetcher as UpdateFetcher
from tests.core.update_world import World, served

ADDRESS = "https://example.invalid/manifest.json"
BAD = {
    "http://me:geheim@": "names no host",
    "http://me:geheim@:3128": "names no host",
    "http://:3128": "names no host",
    "http://": "names no host",
    "me:geheim@": "names no host",
    ":3128": "names no host",
    "socks5://me:geheim@127.0.0.1:9": "SOCKS",
    "socks9://me:geheim@127.0.0.1:9": "SOCKS",
    "ftp://me:geheim@127.0.0.1:9": "neither http:// nor https://",
    "me:geheim@127.0.0.1:9": "neither http:// nor https://",
    "http://me:geheim@127.0.0.1:port": "port that is no number",
    "http://me:geheim@127.0.0.1:99999": "port that is no number",
    "http://me:geheim@127.0.0.1:-1": "port that is no number",
    "http://me:geheim@127.0.0.1:0": "port 0",
    "http://me:ge/heim@127.0.0.1:9": "%2F",
    "http://me:12#heim@127.0.0.1:9": "%2F",
    "http://me:geheim@[::1": "port that is no number",
    "http://me:geheim@ümlaut..:9": "signs that cannot be sent",
    "http://me:geheim€@127.0.0.1:9": "signs that cannot be sent",
    "http://me:geheim@my proxy:9": "names a host that can be none",
}
GOOD = (
    "http://me:geheim@127.0.0.1:9", "127.0.0.1:9", "me@127.0.0.1:9", "//127.0.0.1:9",
    "https://me:geheim@[::1]:9/", "HTTP://proxy.example.org", "http://me:geh%40eim@h_1:3128",
    "http://me:geh eim@127.0.0.1:9", "http://me:gehéim@bücher.example:9",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_socks_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.proxies._knows_socks", lambda: False)
    for name in [one for one in os.environ if one.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def wheel(address: str) -> Wheel:
    return Wheel("tiny", "1.0", "tiny-1.0-py3-none-any.whl", address, 10, "0" * 64, 10)


def from_updates(folder: Path) -> None:
    UpdateFetcher("Framedeck/1").small(ADDRESS, 1000, "It")


def from_engine(folder: Path) -> None:
    list(download.Fetcher(folder, back_off_seconds=0.001).fetch(wheel(ADDRESS)))


def says_nothing(problem: Problem, *more: str) -> None:
    text = json.dumps([problem.to_json(), *more], ensure_ascii=False)
    assert not [part for part in ("geheim", "heim@", "me:ge", "me:1", "12#") if part in text], text


@pytest.mark.parametrize("ask", [from_updates, from_engine])
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("value", BAD)
def test_a_proxy_that_is_none_is_told(
    ask: Any, name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTTP_PROXY", value)  # For other addresses; it is not what is named.
    with pytest.raises(ProblemError) as caught:
        ask(tmp_path)
    problem = caught.value.problem
    assert (problem.field, problem.category) == ("proxy", Category.NETWORK_ERROR)
    assert problem.message.startswith(f"{name} ")
    assert BAD[value] in problem.message
    assert f"{name}=http://name:password@proxy" in problem.hint
    says_nothing(problem, caplog.text)


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("value", ["http://me:geheim@", "http://:3128"])
def test_the_command_says_it_in_words(
    value: str, as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    arguments = ["check", "--home", str(tmp_path), "--address", ADDRESS]
    assert update_cli.main([*arguments, *(["--json"] if as_json else [])]) == 1
    out, err = capfd.readouterr()
    assert "HTTPS_PROXY names no host." in out + err
    assert "Traceback" not in out + err
    assert "geheim" not in out + err


@pytest.mark.parametrize("value", BAD)
def test_a_proxy_that_is_given_by_hand_is_looked_at_as_well(value: str) -> None:
    with pytest.raises(ProblemError) as caught:
        planning.check(Choice(proxy=value))
    assert caught.value.problem.field == "proxy"
    says_nothing(caught.value.problem)


@pytest.mark.parametrize("value", GOOD)
def test_a_proxy_that_may_be_there_is_asked(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fault(value) == ""
    monkeypatch.setenv("https_proxy", value)
    check_proxy(ADDRESS)
    if "127.0.0.1" in value:  # Where nobody listens; the others are not on this machine.
        with pytest.raises(ProblemError) as caught:
            from_updates(tmp_path)
        assert "proxy" in caught.value.problem.details
        says_nothing(caught.value.problem)


def test_a_socks_proxy_is_asked_where_that_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "SOCKS" in fault("socks5h://127.0.0.1:9")
    monkeypatch.setattr("core.proxies._knows_socks", lambda: True)
    assert fault("socks5h://127.0.0.1:9") == ""


def test_only_the_proxy_that_would_be_asked_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://:3128")
    check_proxy("http://example.invalid/")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # The small one is preferred.
    check_proxy(ADDRESS)
    monkeypatch.delenv("https_proxy")
    monkeypatch.setenv("NO_PROXY", "example.invalid")
    check_proxy(ADDRESS)


def test_the_settings_of_the_system_are_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("requests.utils.getproxies", lambda: {"https": "http://me:geheim@"})
    with pytest.raises(ProblemError) as caught:
        check_proxy(ADDRESS)
    assert caught.value.problem.message == "The proxy of the system names no host."
    says_nothing(caught.value.problem)


def test_an_error_says_no_password_of_an_address() -> None:
    assert scrubbed("no //me:geheim@host:1 there") == "no //…@host:1 there"


def test_a_redirect_to_where_a_broken_proxy_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(World(tmp_path / "world")) as world:
        world.manners.redirects["manifest.json"] = ADDRESS
        monkeypatch.setenv("HTTPS_PROXY", "http://me:geheim@")
        with pytest.raises(ProblemError) as caught:
            list(download.Fetcher(tmp_path, back_off_seconds=0.001).fetch(wheel(world.address)))
    assert caught.value.problem.field == "proxy"
    says_nothing(caught.value.problem)


def test_servers_of_this_machine_are_asked_without_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://me:geheim@")
    with StandInProcess(tmp_path) as server:
        assert server.posted() == {}
        assert ServerFetcher(server.url).json("GET", "/queue")
    with served(World(tmp_path / "world")) as world:
        world.publish("0.2.0", 1)
        assert UpdateFetcher("Framedeck/1").small(world.address, 10_000, "It")
        world.manners.files["history/p"] = b'{"p": {"status": {"completed": true}}}'
        assert _ended_well(world.address.removesuffix("/manifest.json"), "p")
