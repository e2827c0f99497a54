"""Jobs whose files come from other machines: what a launcher does about them, and tells."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from balsam.model.query import ALL
from balsam.model.states import State
from balsam.model.transfer import Direction, Transfer, TransferState
from tests.integration.conftest import BIN, Campaign, Run, Start, wait_until
from tests.integration.transfers.globus_service import OURS, THEIRS, TOKEN, GlobusService
from tests.integration.transfers.web import Web
from tests.sshd import Sshd

S = State


@pytest.fixture
def database() -> str:
    """That transfers are kept alike on both is tested in contract/test_transfers.py."""
    return "sqlite"


def settings(campaign: Campaign, **transfers: object) -> None:
    lines = [f"{name} = {json.dumps(value)}" for name, value in transfers.items()]
    text = "\n".join(["[launcher]", "grace_seconds = 1.0", "[transfers]", *lines])
    (campaign.site / "balsam.toml").write_text(text + "\n")


def transfers(campaign: Campaign) -> list[Transfer]:
    found: list[Transfer] = campaign.client.transfers(ALL)  # type: ignore[attr-defined]
    return found


def ls(campaign: Campaign, *words: str) -> Any:
    argv = [str(BIN / "balsam"), "--site", str(campaign.site), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_in_by_http_out_by_ssh(
    campaign: Campaign, run: Run, web: Web, sshd: Sshd, tmp_path: Path
) -> None:
    """Several URLs, a server that fails first, and what is told of it."""
    settings(campaign, ssh=sshd.ssh, back_off_seconds=0.01)
    web.files |= {"/a.dat": b"a" * 10, "/b.dat": b"b"}
    web.faults = [{"status": 503}, {"cut": 3}]
    far = tmp_path / "far"
    campaign.app("join", "#\ncat a.dat b.dat > all; mkdir d; echo x > d/x")
    job = campaign.job(
        "join",
        stage_in_url=f"{web.url}/a.dat {web.url}/b.dat",
        stage_out_url=f"scp:127.0.0.1:{far}/{{name}} rsync:127.0.0.1:{far}/again",
        stage_out_files="all d",
    )
    run()
    assert campaign.state(job) == S.JOB_FINISHED, campaign.tell(job)
    for name in ("job", "again"):
        assert (far / name / "all").read_text() == "a" * 10 + "b"
        assert (far / name / "d" / "x").read_text() == "x\n"
    assert campaign.message(job, S.STAGED_IN) == "copied a.dat b.dat"
    found = transfers(campaign)
    assert [(t.direction, t.number, t.state, t.files, t.bytes_done, t.attempts) for t in found] == [
        (Direction.IN, 1, TransferState.DONE, 1, 10, 3),
        (Direction.IN, 2, TransferState.DONE, 1, 1, 1),
        (Direction.OUT, 1, TransferState.DONE, 2, 13, 1),
        (Direction.OUT, 2, TransferState.DONE, 2, 13, 1),
    ]
    assert all(t.started_at and t.ended_at and not t.error for t in found)
    table = ls(campaign, "ls", "transfers", "--id", str(job), "--filter", "direction=in")
    assert f"{web.url}/a.dat" in table
    assert "10 B" in table
    records = json.loads(ls(campaign, "ls", "transfers", "--state", "done", "--json"))
    assert [record["number"] for record in records] == [1, 2, 1, 2]
    assert records[0]["started_at"].endswith("Z")
    shown = json.loads(ls(campaign, "show", str(job), "--json"))
    assert shown["transfers"] == records


def test_what_fails_says_which_file_after_its_tries(campaign: Campaign, run: Run, web: Web) -> None:
    settings(campaign, back_off_seconds=0.01, attempts=3)
    web.files["/good"] = b"x"
    web.faults = [{"status": 502}] * 3
    away = campaign.job("true", "away", stage_in_url=f"{web.url}/good")
    run()
    missing = campaign.job("true", "missing", stage_in_url=f"{web.url}/none {web.url}/good")
    run()
    assert campaign.state(away) == S.FAILED
    assert campaign.message(away, S.FAILED) == (
        f"staging in: {web.url}/good: the server answers 502 Bad Gateway"
    )
    assert f"{web.url}/none: the server answers 404" in campaign.message(missing, S.FAILED)
    first, second, third = transfers(campaign)
    assert (first.state, first.attempts) == (TransferState.FAILED, 3)
    assert (second.state, second.attempts) == (TransferState.FAILED, 1)
    assert (third.state, third.attempts) == (TransferState.STOPPED, 0)
    assert "502" in first.error


def test_others_run_while_files_come(campaign: Campaign, start: Start, web: Web) -> None:
    """It holds no node; a kill ends it; a launcher that ends gives it back, to be resumed."""
    settings(campaign)
    web.files["/in.dat"] = bytes(3 * 2**20)
    web.pause = threading.Event()
    killed = campaign.job("true", "killed", stage_in_url=f"{web.url}/in.dat")
    kept = campaign.job("true", "kept", stage_in_url=f"{web.url}/in.dat")
    launcher = start("--idle-seconds", "60")
    wait_until(lambda: any(t.bytes_done for t in transfers(campaign)), launcher_tells(launcher))
    assert {t.state for t in transfers(campaign)} == {TransferState.RUNNING}
    other = campaign.job("true", "other")
    campaign.wait_for(other, S.JOB_FINISHED)
    campaign.client.kill_jobs(ALL.where(id=killed))
    stopped = [TransferState.STOPPED, TransferState.RUNNING]
    wait_until(lambda: [t.state for t in transfers(campaign)] == stopped, launcher_tells(launcher))
    launcher.process.terminate()
    launcher.wait()
    assert campaign.state(killed) == S.USER_KILLED
    assert campaign.state(kept) == S.READY, campaign.tell(kept)
    assert [t.state for t in transfers(campaign)] == [TransferState.STOPPED] * 2
    web.pause.set()
    web.pause, web.asked = None, []
    start().wait()
    assert campaign.state(kept) == S.JOB_FINISHED
    assert web.asked[0][2].startswith("bytes="), web.asked


def launcher_tells(launcher: Any) -> Any:
    return lambda: launcher.output


def test_limits(campaign: Campaign, run: Run, web: Web) -> None:
    """No more with one host than are allowed, and all come in the end."""
    settings(campaign, per_host=2, total=3)
    web.files |= {f"/{n}": b"x" for n in range(20)}
    jobs = [campaign.job("true", f"j{n}", stage_in_url=f"{web.url}/{n}") for n in range(20)]
    run()
    assert {campaign.state(job) for job in jobs} == {S.JOB_FINISHED}
    assert web.most_at_once <= 2
    assert {t.state for t in transfers(campaign)} == {TransferState.DONE}


def test_by_globus(
    campaign: Campaign, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps its task is told, and no host's limit counts."""
    pytest.importorskip("globus_sdk")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "in.dat").write_text("x")
    service = GlobusService(tmp_path, tmp_path / "far")
    monkeypatch.setenv("GLOBUS_ACCESS_TOKEN", TOKEN)
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_TRANSFER", service.url)
    settings(campaign, globus_endpoint=OURS, globus_root=str(tmp_path), total=1)
    service.patch = {"nice_status": "CONNECTION_FAILED", "faults": 2}
    url = f"globus://{THEIRS}/in.dat"
    jobs = [campaign.job("true", f"j{number}", stage_in_url=url) for number in range(2)]
    try:
        launcher = start()
        wait_until(
            lambda: (
                [t.error.partition(": ")[2] for t in transfers(campaign)]
                == ["CONNECTION_FAILED, 2 faults"] * 2
            ),
            launcher_tells(launcher),
        )
        service.patch = {}
        launcher.wait()
    finally:
        service.close()
    assert [campaign.state(job) for job in jobs] == [S.JOB_FINISHED] * 2
    assert {(t.state, t.error, t.files) for t in transfers(campaign)} == {
        (TransferState.DONE, "", 1)
    }


def test_inputs_of_parents(campaign: Campaign, run: Run) -> None:
    campaign.app(
        "make", "#\nmkdir -p a b; echo $BALSAM_JOB_ID > a/out; echo 2 > b/out; touch c.log"
    )
    campaign.app("look", "#\nls")
    one, two = campaign.jobs("make", "one", "two")
    child = campaign.job(
        "look", "child", parents=[one], parents_any=[two], input_files="**/out c.* *.none"
    )
    needs = campaign.job("look", "needs", parents=[one], input_files="result.h5")
    nothing = campaign.job("look", "nothing", parents=[one])
    run()
    first, second = campaign.get(one).job_id[:8], campaign.get(two).job_id[:8]
    names = f"c.log c.log_{second} child.out out out_{first} out_{second} out_{second}_2"
    assert sorted(campaign.output(child).split()) == sorted(names.split())
    note = campaign.message(child, S.STAGED_IN)
    assert f"linked out out_{first} out_{second} out_{second}_2 c.log c.log_{second}" in note
    assert "no parent has *.none" in note
    assert "no parent's directory has result.h5" in campaign.message(needs, S.FAILED)
    assert campaign.output(nothing).split() == ["nothing.out"]


def test_a_parents_directory_that_is_away(campaign: Campaign, run: Run) -> None:
    campaign.app("leave", "#\nrm -r $PWD")
    parent = campaign.job("leave", "parent")
    child = campaign.job("true", "child", parents=[parent], input_files="*.dat")
    run()
    assert campaign.state(child) == S.FAILED
    assert f"the directory of job {parent}, is away" in campaign.message(child, S.FAILED)
