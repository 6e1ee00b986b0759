"""A queue taken elsewhere: what comes back, and what is refused."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from core.engines.local.families import recipes as local_recipes
from core.errors import Category, Problem, ProblemError
from core.events import Failed, Stopped
from core.jobs import Job, JobState, Kind, Parameter, Recipe, new_job
from core.ledger import Ledger
from core.queue import Group, JobRow
from core.queue_files import Exported, Imported, read_queue, write_queue
from core.queue_files import format as rules
from core.queue_files import read as reading

PNG = b"\x89PNG\r\n\x1a\n"
MOVES = Recipe(
    id="moves",
    title="Picture to video",
    summary="",
    engine="comfy",
    family="moves",
    parameters=(
        Parameter("prompt", Kind.TEXT, "Prompt", "", maximum=2000),
        Parameter("image", Kind.IMAGE, "Start picture", "", required=True),
        Parameter("server", Kind.CHOICE, "Run on", "http://a:1", choices=("http://a:1",)),
        Parameter("seed", Kind.SEED, "Seed", None, minimum=0, maximum=2**32 - 1),
    ),
)
RECIPES = {r.id: r for r in (*local_recipes(Path("/nowhere")), MOVES)}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(tmp_path / "ledger.sqlite")) as made:
        yield made


def rows_of(ledger: Ledger) -> list[JobRow]:
    return [row for group in Group for row in ledger.rows(ledger.ids(group))]


def jobs_with_pictures(folder: Path, count: int = 4) -> list[Job]:
    made = []
    for number in range(count):
        picture = folder / f"start {number % 2}.png"
        picture.write_bytes(PNG + bytes([number % 2]) * 500)
        values = {"prompt": f"scene {number} “ü”", "image": str(picture), "seed": number}
        made.append(new_job(MOVES, values, folder / "clips"))
    return made


def exported(ledger: Ledger, path: Path) -> Exported:
    return write_queue(path, rows_of(ledger), RECIPES)


def imported(path: Path, home: Path, **more: Any) -> Imported:
    taken: Callable[..., Any] = more.pop("taken", lambda ids: set())
    return read_queue(path, RECIPES, home / "clips", home / "inputs", taken=taken, **more)


def test_a_queue_comes_back_whole_on_another_machine(tmp_path: Path, ledger: Ledger) -> None:
    jobs = jobs_with_pictures(tmp_path)
    ledger.enqueue(jobs)
    ledger.move_to_top([jobs[3].id])
    done = exported(ledger, tmp_path / "q.zip")
    assert (done.jobs, done.inputs, done.missing) == (4, 2, ())
    before = [row.job for row in rows_of(ledger)]
    for picture in tmp_path.glob("start*"):
        picture.unlink()
    other = tmp_path / "other"
    got = imported(tmp_path / "q.zip", other)
    assert [job.id for job in got.jobs] == [job.id for job in before]
    assert (got.renamed, got.moved, got.left_out) == (0, 0, 0)
    for old, new in zip(before, got.jobs, strict=True):
        same = {**new.params, "image": old.params["image"]}
        assert same == dict(old.params)
        picture = Path(str(new.params["image"]))
        assert picture.read_bytes() == PNG + bytes([int(old.params["seed"]) % 2]) * 500
        assert picture.parent == other / "inputs"
        assert Path(new.output).is_relative_to(other / "clips")
    with closing(Ledger.open(other / "ledger.sqlite")) as there:
        there.enqueue(got.jobs)
        assert there.job_ids(there.ids(Group.WAITING)) == [job.id for job in before]


def test_ids_in_use_are_made_anew_and_pictures_used_again(tmp_path: Path, ledger: Ledger) -> None:
    jobs = jobs_with_pictures(tmp_path)
    ledger.enqueue(jobs)
    ledger.remove([jobs[0].id])  # Taken all the same: undo may bring it back.
    exported(ledger, tmp_path / "q.zip")
    first = imported(tmp_path / "q.zip", tmp_path, taken=ledger.taken)
    assert first.renamed == 3
    assert len(first.written) == 2
    ledger.enqueue(first.jobs)
    again = imported(tmp_path / "q.zip", tmp_path, taken=ledger.taken)
    assert again.written == ()
    ledger.enqueue(again.jobs)
    assert len(ledger.ids(Group.WAITING)) == 9
    assert len(list((tmp_path / "inputs").iterdir())) == 2


def test_ended_jobs_stay_out_unless_wanted(tmp_path: Path, ledger: Ledger) -> None:
    jobs = jobs_with_pictures(tmp_path)
    ledger.enqueue(jobs)
    ledger.begin(jobs[0].id)
    ledger.end(jobs[0].id, Stopped(job_id=jobs[0].id, seconds=1.0))
    exported(ledger, tmp_path / "q.zip")
    waiting = imported(tmp_path / "q.zip", tmp_path / "o")
    assert (len(waiting.jobs), waiting.left_out) == (3, 1)
    both = imported(tmp_path / "q.zip", tmp_path / "o", ended=True)
    assert {job.id for job in both.jobs} == {job.id for job in jobs}


def test_another_machines_server_becomes_the_first_one_here(tmp_path: Path) -> None:
    (tmp_path / "q.png").write_bytes(PNG)
    job = new_job(MOVES, {"image": str(tmp_path / "q.png")}, tmp_path)
    abroad = Job.from_json({**job.to_json(), "params": {**job.params, "server": "http://evil:1"}})
    write_queue(tmp_path / "q.zip", [JobRow(abroad, JobState.WAITING)], RECIPES)
    got = imported(tmp_path / "q.zip", tmp_path / "o")
    assert got.moved == 1
    assert got.jobs[0].params["server"] == "http://a:1"


def test_engine_model_and_paths_of_the_file_are_not_believed(
    tmp_path: Path, ledger: Ledger
) -> None:
    ledger.enqueue([new_job(RECIPES["test-pattern"], {"prompt": "x"}, tmp_path)])
    exported(ledger, tmp_path / "q.zip")

    def twist(content: dict[str, Any]) -> None:
        job = content["jobs"][0]["job"]
        job |= {"engine": "evil", "family": "../x", "model": "/etc", "output": "/etc/passwd"}

    (job,) = imported(rewritten(tmp_path / "q.zip", twist), tmp_path / "o").jobs
    assert (job.engine, job.family, job.model) == ("local", "test_pattern", "")
    assert Path(job.output).is_relative_to(tmp_path / "o" / "clips")


def test_a_picture_that_is_gone_is_told_and_its_job_refused_there(
    tmp_path: Path, ledger: Ledger
) -> None:
    jobs = jobs_with_pictures(tmp_path, 2)
    ledger.enqueue(jobs)
    (tmp_path / "start 1.png").unlink()
    done = exported(ledger, tmp_path / "q.zip")
    assert done.missing == (str(tmp_path / "start 1.png"),)
    with pytest.raises(ProblemError, match=r"Job 2, .*its picture was not exported"):
        imported(tmp_path / "q.zip", tmp_path / "o")
    assert not list((tmp_path / "o").rglob("*.png"))


def test_text_that_looks_like_a_path_takes_no_file_along(tmp_path: Path, ledger: Ledger) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG)
    ledger.enqueue([new_job(RECIPES["test-pattern"], {"prompt": str(secret)}, tmp_path)])
    assert exported(ledger, tmp_path / "q.zip").inputs == 0


def test_nothing_to_export_writes_nothing(tmp_path: Path, ledger: Ledger) -> None:
    kept = tmp_path / "q.zip"
    kept.write_bytes(b"mine")
    with pytest.raises(ProblemError, match="no job to export"):
        exported(ledger, kept)
    assert kept.read_bytes() == b"mine"
    assert {p.name for p in tmp_path.iterdir()} >= {"q.zip"}
    assert not list(tmp_path.glob(".q.zip*"))


# -- what strangers send --------------------------------------------------------


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Return a copy of a queue file with another manifest."""
    out = path.with_name("twisted.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            if name != rules.MANIFEST:
                new.writestr(name, old.read(name))
        content = json.loads(old.read(rules.MANIFEST))
        told = change(content)
        text = told if isinstance(told, str | bytes) else json.dumps(content)
        new.writestr(rules.MANIFEST, text)
    return out


@pytest.fixture
def good(tmp_path: Path, ledger: Ledger) -> Path:
    ledger.enqueue(jobs_with_pictures(tmp_path))
    exported(ledger, tmp_path / "q.zip")
    return tmp_path / "q.zip"


def untouched(home: Path) -> bool:
    return not home.exists() or not [p for p in home.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "inputs/../../evil.png",
        "/etc/cron.d/evil",
        "C:\\evil.exe",
        "inputs\\evil.png",
        "inputs/0123456789abcdef0123456789abcdef.png/../x",
        "inputs/0123456789abcdef0123456789abcdef.png\0.txt",
        "inputs/0123456789ABCDEF0123456789ABCDEF.png",
        "inputs/",
        "queue.json/",
        "readme.txt",
        "",
    ],
)
def test_a_name_that_no_queue_has_refuses_the_file(good: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(good, "a") as archive:
        info = zipfile.ZipInfo("x" * max(1, len(name)))
        archive.writestr(info, b"evil")
    data = good.read_bytes()
    filler = b"x" * max(1, len(name))
    if name:
        # Written past zipfile, which would tidy some of these names.
        data = data.replace(filler, name.encode())
    bad = tmp_path / "bad.zip"
    bad.write_bytes(data)
    with pytest.raises(ProblemError) as caught:
        imported(bad, tmp_path / "o")
    assert caught.value.problem.field == "file"
    assert untouched(tmp_path / "o")


def test_links_and_devices_are_refused(good: Path, tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR):
        bad = tmp_path / "bad.zip"
        bad.write_bytes(good.read_bytes())
        with zipfile.ZipFile(bad, "a") as archive:
            info = zipfile.ZipInfo("inputs/0123456789abcdef0123456789abcdef.png")
            info.external_attr = (kind | 0o777) << 16
            archive.writestr(info, b"/etc/passwd")
        with pytest.raises(ProblemError, match="no plain file"):
            imported(bad, tmp_path / "o")
    assert untouched(tmp_path / "o")


def test_a_link_that_waits_in_the_folder_is_not_written_through(good: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    folder = tmp_path / "o" / "inputs"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(good) as archive:
        names = [n.partition("/")[2] for n in archive.namelist() if n.startswith("inputs/")]
    for name in names:
        (folder / name).symlink_to(victim)
    imported(good, tmp_path / "o")
    assert victim.read_bytes() == b"precious"


def test_bombs_are_refused_before_they_are_unpacked(good: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bomb.zip"
    zeros = rules.digest()
    zeros.update(bytes(50 * 2**20))
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"inputs/{zeros.hexdigest()}.png", bytes(50 * 2**20))
        archive.writestr(rules.MANIFEST, zipfile.ZipFile(good).read(rules.MANIFEST))
    assert bad.stat().st_size < 200_000
    with pytest.raises(ProblemError, match="larger than anything"):
        imported(bad, tmp_path / "o")
    assert untouched(tmp_path / "o")


def test_a_member_that_lies_about_its_size_is_refused(good: Path, tmp_path: Path) -> None:
    data = bytearray(good.read_bytes())
    at = data.rfind(b"PK\1\2")
    while at >= 0 and data[at + 46 : at + 52] != b"inputs":
        at = data.rfind(b"PK\1\2", 0, at)
    struct.pack_into("<I", data, at + 24, 10)  # unpacked size in the list of contents
    bad = tmp_path / "bad.zip"
    bad.write_bytes(data)
    with pytest.raises(ProblemError):
        imported(bad, tmp_path / "o")
    assert untouched(tmp_path / "o")


def test_a_list_of_contents_without_end_is_not_read(tmp_path: Path) -> None:
    bad = tmp_path / "bad.zip"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 2**31, 0, 0)
    with bad.open("wb") as file:
        file.truncate(2**31)
        file.seek(0, os.SEEK_END)
        file.write(end)
    with pytest.raises(ProblemError, match="larger than anything"):
        imported(bad, tmp_path / "o")


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_INPUTS", 3)
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        for number in range(5):
            archive.writestr(f"inputs/{number:032x}.png", b"")
    with pytest.raises(ProblemError, match="holds 5 files"):
        imported(bad, tmp_path / "o")


def test_a_picture_changed_on_the_way_is_refused_and_nothing_kept(
    good: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(good) as old:
        names = old.namelist()
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as new:
            for name in names:
                # The last picture alone, so that others are on the disk by then.
                last = name == [n for n in names if n != rules.MANIFEST][-1]
                new.writestr(name, b"swapped" if last else old.read(name))
    with pytest.raises(ProblemError, match="changed or damaged"):
        imported(tmp_path / "bad.zip", tmp_path / "o")
    assert untouched(tmp_path / "o")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update({rules.KEY: 2}), "version 2"),
        (lambda c: c.pop(rules.KEY), "no queue"),
        (lambda c: b"{", "cannot be read"),
        (lambda c: b"\xff", "cannot be read"),
        (lambda c: "[" * 200_000, "cannot be read"),
        (lambda c: "[]", "no queue"),
        (lambda c: c.update(jobs={}), "no list"),
        (lambda c: c.update(jobs=[1]), "Job 1 in it is damaged"),
        (lambda c: c["jobs"][2].update(state="asleep"), "Job 3 in it is damaged"),
        (lambda c: c["jobs"][2].update(state=[]), "Job 3 in it is damaged"),
        (lambda c: c["jobs"][2]["job"].pop("params"), "Job 3 in it is damaged"),
        (lambda c: c["jobs"][2]["job"]["params"].update(x=[1]), "Job 3 in it is damaged"),
        (lambda c: c["jobs"][2]["job"].update(id=7), "Job 3 in it is damaged"),
        (lambda c: c["jobs"][2]["inputs"].update(image="../x"), "Job 3 in it is damaged"),
        (lambda c: c["jobs"][2]["inputs"].update(image=rules.MANIFEST), "Job 3 .*damaged"),
        (lambda c: c["jobs"][2]["job"].update(recipe="gone"), "Job 3, .*'gone' is not known"),
        (lambda c: c["jobs"][2]["job"]["params"].update(seed=-7), "Job 3, .*Seed"),
        (lambda c: c["jobs"][2]["job"]["params"].update(seed=10**400), "Job 3, .*Seed"),
        (lambda c: c["jobs"][2]["job"]["params"].update(extra=1), "Job 3, .*no parameter"),
        (lambda c: c["jobs"][2]["job"]["params"].update(seed=float("nan")), "cannot be read"),
    ],
)
def test_a_manifest_that_is_wrong_names_what_is(
    good: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    with pytest.raises(ProblemError, match=words):
        imported(rewritten(good, change), tmp_path / "o")
    assert untouched(tmp_path / "o")


def test_ids_of_the_file_choose_nothing(good: Path, tmp_path: Path) -> None:
    def twist(content: dict[str, Any]) -> None:
        ids = ["../../evil", "x", content["jobs"][3]["job"]["id"], content["jobs"][3]["job"]["id"]]
        for entry, job_id in zip(content["jobs"], ids, strict=True):
            entry["job"]["id"] = job_id

    got = imported(rewritten(good, twist), tmp_path / "o")
    assert got.renamed == 3
    assert len({job.id for job in got.jobs}) == 4
    assert all(len(job.id) == 36 and ".." not in job.output for job in got.jobs)


def test_a_queue_that_cannot_be_queued_leaves_no_picture(good: Path, tmp_path: Path) -> None:
    got = imported(good, tmp_path / "o")
    assert len(got.written) == 2
    got.discard()
    assert untouched(tmp_path / "o")


def test_a_file_damaged_anywhere_gives_all_of_it_or_a_problem(tmp_path: Path) -> None:
    jobs = jobs_with_pictures(tmp_path)
    write_queue(tmp_path / "q.zip", [JobRow(job, JobState.WAITING) for job in jobs], RECIPES)
    whole = (tmp_path / "q.zip").read_bytes()
    said = [{**job.params, "image": ""} for job in jobs]
    bad, home, chance = tmp_path / "bad.zip", tmp_path / "o", random.Random(6)
    refusals = 0
    for at in range(len(whole)):
        raw = bytearray(whole)
        match chance.randrange(4):
            case 0:
                raw = raw[:at]
            case 1:
                raw[at:at] = chance.randbytes(chance.randint(1, 30))
            case _:
                raw[at] ^= chance.randint(1, 255)
        bad.write_bytes(raw)
        try:
            got = imported(bad, home)
        except ProblemError as error:
            assert error.problem.hint
            assert untouched(home)
            refusals += 1
        else:
            # Some bytes carry nothing, such as the time that a picture was packed.
            assert [{**job.params, "image": ""} for job in got.jobs] == said
            shutil.rmtree(home)
    assert refusals > 0.8 * len(whole)


def test_a_failed_job_of_an_unknown_recipe_takes_its_picture_along(
    tmp_path: Path, ledger: Ledger
) -> None:
    (job,) = jobs_with_pictures(tmp_path, 1)
    ledger.enqueue([job])
    ledger.begin(job.id)
    problem = Problem(Category.UNKNOWN, "It broke.", "Retry.")
    ledger.end(job.id, Failed(job_id=job.id, problem=problem, seconds=1.0))
    done = write_queue(tmp_path / "q.zip", rows_of(ledger), {})
    assert (done.jobs, done.inputs) == (1, 1)
