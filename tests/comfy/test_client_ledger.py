"""After a start: jobs that are on a server are asked for before they are called lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from core.events import Failed
from core.jobs import JobState
from core.ledger import Ledger
from tests.comfy.client_bench import ROOT, Process, drain, engine, graph, job

# A process that begins the jobs and is gone.
BEGIN = """
import sys
from pathlib import Path
from core.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
for key in sys.argv[2:]:
    ledger.begin(key)
ledger.close()
"""


def test_adopted_jobs_are_resumed_and_others_lost(tmp_path: Path) -> None:
    server = Process(tmp_path)
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    on_server = job(tmp_path, graph(steps=20, step_seconds=0.1))
    never_sent = job(tmp_path)
    here = type(on_server).from_json({**job(tmp_path).to_json(), "engine": "local"})
    ledger.enqueue([on_server, never_sent, here])
    ids = [on_server.id, never_sent.id, here.id]
    subprocess.run([sys.executable, "-c", BEGIN, str(path), *ids], cwd=ROOT, check=True)
    comfy = engine(server.base)
    server.post_as(on_server)
    try:
        assert [row.job.id for row in ledger.recover(elsewhere=["comfy"])] == [here.id]
        adopted = ledger.adopt("comfy")
        assert [one.id for one in adopted] == [on_server.id, never_sent.id]
        assert ledger.adopt("comfy") == [], "each is adopted once"
        assert ledger.recover() == [], "they are this process' own now"
        for one in adopted:
            ledger.end(one.id, drain(comfy.resume(one))[-1])  # type: ignore[arg-type]
        states = {row.job.id: row.state for row in map(ledger.row, ids) if row is not None}
        assert states == {
            on_server.id: JobState.DONE,
            never_sent.id: JobState.LOST,
            here.id: JobState.LOST,
        }
        assert server.fault()["posts"] == [on_server.id]
    finally:
        comfy.close()
        server.kill()
        ledger.close()


def test_a_lost_ending_stands_as_lost_and_can_be_retried(tmp_path: Path) -> None:
    with_nobody = engine("http://127.0.0.1:9")
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    one = job(tmp_path)
    ledger.enqueue([one])
    ledger.begin(one.id)
    ending = drain(with_nobody.run(one))[-1]
    assert isinstance(ending, Failed)
    ledger.end(one.id, Failed(job_id=one.id, problem=ending.problem, seconds=1, lost=True))
    row = ledger.row(one.id)
    assert row is not None
    assert row.state is JobState.LOST
    ledger.retry([one.id])
    with_nobody.close()
    ledger.close()
