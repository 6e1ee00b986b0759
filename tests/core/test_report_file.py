"""A report holds what helps, and nothing that is private, whatever was logged or chosen."""

from __future__ import annotations

import shutil
import string
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.crashes import records
from core.engines.local.families import recipes
from core.errors import Category, Problem
from core.jobs import JobState, new_job
from core.places import Places
from core.private_words import Scrubber
from core.queue import JobRow
from core.report_file import Part, Sources, assemble, scrubber_for, write_zip
from core.settings import Settings

WORD = st.text(string.ascii_letters, min_size=6, max_size=10).map(lambda word: f"Qz{word}xQ")
"""Words that stand nowhere else."""
TOKEN = st.text(
    string.ascii_letters + string.digits + "-_.~+/= '\"\\é", min_size=8, max_size=30
).map(lambda token: f"Zq{token.strip()}9")


def row_of(places: Places, prompt: str, message: str) -> JobRow:
    recipe = next(one for one in recipes(places.models) if one.id == "test-pattern")
    job = new_job(
        recipe, {"width": 64, "height": 64, "frames": 8, "prompt": prompt}, places.outputs
    )
    problem = Problem(Category.UNKNOWN, f"It failed: {message}", "Try.", f"at {prompt}, {message}")
    return JobRow(job, JobState.FAILED, problem=problem)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    words=st.lists(WORD, min_size=3, max_size=8), user=WORD, host=WORD, server=WORD,
    key=TOKEN, kept=TOKEN,
)  # fmt: skip
def test_nothing_private_is_in_a_report(
    tmp_path: Path, words: list[str], user: str, host: str, server: str, key: str, kept: str
) -> None:
    places = Places.find(tmp_path).make()
    prompt, home = " ".join(words), f"/home/{user}"
    shown = (
        f"2026 {user}@{host} {home}/clips/{'_'.join(words).lower()}-01.mp4 {prompt!r} {kept}\n"
        f"Authorization: Bearer {key}\nGET http://{user}:{kept}@{server}.example.com:8188/x?t={key}\n"
        f'{{"prompt": "{prompt}", "api_key": {key!r}}} host={host}.local\n'
    )
    for path in (places.log, places.worker_log, places.crash_log, places.logs / f"{server}.log"):
        path.write_text(shown, "utf-8")
    records.save(places.crashes, "window", shown, {"lines": [shown]}, shown)
    chosen = Settings(
        outputs=f"{home}/clips", interpreter=f"{home}/venv/bin/python",
        model_folders=[f"{home}/models/{server}"], compose={"starter": {"prompt": prompt}},
        servers=[{"base": f"http://{server}.example.com:8188", "title": server,
                  "folder": f"{home}/ComfyUI", "arguments": ["--user", user, f"--key={kept}"]}],
        news={"ntfy": {"address": server, "token": key}},
    )  # fmt: skip
    sources = Sources(
        places, chosen, {"failed": 1}, [row_of(places, prompt, shown)], [key, kept],
        {"screens": [host]}, lambda: shown,
    )  # fmt: skip
    known = scrubber_for(sources)
    own = Scrubber(homes=[home], users=[user], hosts=[host])

    parts = [replace(part, text=own.clean(part.text)) for part in assemble(sources, known)]
    write_zip(tmp_path / "report.zip", parts)
    with zipfile.ZipFile(tmp_path / "report.zip") as file:
        whole = "\n".join([*file.namelist(), *(file.read(n).decode() for n in file.namelist())])
    for private in (*words, user, host, server, key, kept):
        assert private.casefold() not in whole.casefold(), private
    shutil.rmtree(places.logs)  # The next example finds nothing of this one.


def test_what_helps_is_in_it(tmp_path: Path) -> None:
    places = Places.find(tmp_path).make()
    places.log.write_text("line\n" * 100_000 + "the last line\n")
    places.crash_log.write_text("Fatal Python error: Aborted\n")
    (places.logs / "8188.log").write_text("got prompt\n")
    row = row_of(places, "x", "CUDA out of memory in attention.py, line 7")
    sources = Sources(places, Settings(min_free_mb=77), {"failed": 1, "done": 3}, [row])
    parts = {part.name: part for part in assemble(sources)}
    assert parts["logs/framedeck.log"].text.endswith("the last line\n")
    assert parts["logs/framedeck.log"].size_bytes <= 200_000
    assert "Aborted" in parts["logs/crash.log"].text
    assert not parts["logs/server-1.log"].wanted, "what servers print is theirs: only when ticked"
    assert '"done": 3' in parts["jobs.json"].text
    assert "CUDA out of memory in attention.py, line 7" in parts["jobs.json"].text
    assert '"min_free_mb": 77' in parts["settings.json"].text
    assert '"python"' in parts["versions.json"].text
    assert "doctor.txt" not in parts


def test_a_doctor_that_fails_hides_nothing_else(tmp_path: Path) -> None:
    def fails() -> str:
        raise RuntimeError("the doctor is ill")

    parts = assemble(Sources(Places.find(tmp_path).make(), Settings(), {}, doctor=fails))
    names = ["versions.json", "doctor.txt", "settings.json", "jobs.json"]
    assert [part.name for part in parts] == names
    assert parts[1].text == "The doctor could not look: RuntimeError: the doctor is ill\n"


def test_a_report_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.zip"
    write_zip(target, [Part("a.txt", "", "a")])
    before = target.read_bytes()
    write_zip(target, [Part("a.txt", "", "a")])
    assert target.read_bytes() == before, "the same parts make the same file"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space"):
        write_zip(target, [Part("b.txt", "", "b")])
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.zip"]


def test_folders_proxies_and_values_of_a_person_are_in_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "Zoë Möller"
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("https_proxy", "http://proxyname:prx%21word@proxy.firma.example:3128")
    places = Places.find(tmp_path / "Geheimkunde").make()
    told = (
        f"{places.data}/x /mnt/Auftrag/a.mp4 /srv/Modelle Anke/b /opt/Kundenpy/bin/python "
        "proxyname prx!word prx%21word proxy.firma.example Zoë Möller engword\n"
    )
    row = row_of(places, "x", told)
    params = row.job.params | {"loras": [{"path": "anke.safetensors"}], "deep": {"a": "anke2"}}
    row = replace(row, job=replace(row.job, params=params))
    for path in (places.log, places.worker_log, places.crash_log):
        path.write_text(told, "utf-8")
    records.save(places.crashes, "worker", "It fell", {"lines": [told]}, told)
    chosen = Settings(
        outputs="/mnt/Auftrag", model_folders=["/srv/Modelle Anke"], dream_screen="Ankes TV",
        interpreter="/opt/Kundenpy/bin/python", engine_proxy="http://eng:engword@10.0.0.3:80",
        servers=[{"base": "http://127.0.0.1:8188", "folder": "/srv/AnkeUI", "arguments":
                  ["--port", "8188", "--lowvram", "--out", "/srv/AnkeOut", "--key=argword"]}],
    )  # fmt: skip
    parts = assemble(Sources(places, chosen, {"failed": 1}, [row], doctor=lambda: told))
    whole = "\n".join(part.text for part in parts).casefold()
    for private in (
        *("geheimkunde", "auftrag", "anke", "kundenpy", "proxyname", "prx", "firma", "zoë"),
        *("möller", "engword", "argword"),
    ):
        assert private not in whole, private
    for helps in ("--port", "8188", "--lowvram", "--key=…", '"step_seconds"'):
        assert helps in whole
