"""What only a real Grid Engine shows: launchers in its slots, and a master lost."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from balsam.errors import SchedulerAway
from balsam.model.batch_job import BatchState
from balsam.schedulers.command import Command
from balsam.schedulers.scheduler import Status, Submission
from balsam.schedulers.sge import GridEngine as Adapter
from tests.integration.conftest import BIN, Campaign, is_running, wait_until
from tests.sge import GridEngine, cell

B = BatchState
SGE = Adapter()
Submit = Callable[..., str]


@pytest.fixture(scope="module")
def engine() -> Iterator[GridEngine]:
    with cell(2) as found:
        yield found


@pytest.fixture
def run(engine: GridEngine) -> Iterator[Command]:
    yield Command(30, engine.environ)
    engine.run("qdel", "-u", "root")
    wait_until(lambda: not engine.run("qstat"), lambda: engine.run("qstat", "-f"))


@pytest.fixture
def database() -> str:
    return "sqlite"


@pytest.fixture
def submit(run: Command, tmp_path: Path) -> Submit:
    """Submit a script of this host by the adapter; return the id of the request."""

    def submit(body: str, name: str = "balsam-1", output: str = "") -> str:
        script = tmp_path / f"{name}.sh"
        submission = Submission(
            name=name,
            script=str(script),
            output=output or str(tmp_path / "batch.out"),
            directory=str(tmp_path),
            num_nodes=1,
            minutes=10,
        )
        script.write_text("\n".join(["#!/bin/bash", *SGE.directives(submission), body, ""]))
        return SGE.submit(run, submission)

    return submit


def launcher(campaign: Campaign, home: Path, *args: str) -> str:
    """Return what a script runs so that a launcher works for the campaign."""
    words = [str(BIN / "balsam"), "--site", str(campaign.site), "launcher", "--consume-all", *args]
    return f"export BALSAM_HOME={shlex.quote(str(home))}\nexec {shlex.join(words)}"


def status(run: Command, number: str) -> Status | None:
    found = SGE.status(run, [number]) or SGE.history(run, [number])
    return found.get(number)


def wait_for(run: Command, number: str, *states: BatchState) -> Status:
    def there() -> Status | None:
        found = status(run, number)
        return found if found and found.state in states else None

    found = wait_until(there, lambda: status(run, number))
    assert isinstance(found, Status)
    return found


@pytest.mark.slow
def test_a_launcher_runs_in_its_slots(
    campaign: Campaign, run: Command, submit: Submit, tmp_path: Path, balsam_home: Path
) -> None:
    (campaign.site / "balsam.toml").write_text("[nodes]\ncores = 2\n")
    campaign.app("wait", "/bin/sleep 0.2")
    campaign.jobs("wait", *(f"j{n}" for n in range(6)))
    number = submit(launcher(campaign, balsam_home, "--idle-seconds", "1"))
    ended = wait_for(run, number, B.FINISHED, B.FAILED)
    told = (tmp_path / "batch.out").read_text()
    assert (ended.state, ended.exit_code) == (B.FINISHED, 0), told
    assert campaign.states() == {"JOB_FINISHED": 6}


@pytest.mark.slow
def test_a_launcher_that_is_cancelled_leaves_nothing(
    campaign: Campaign, run: Command, submit: Submit, balsam_home: Path
) -> None:
    campaign.app("wait", "/bin/sleep 1000")
    (job,) = campaign.jobs("wait", "a")
    number = submit(launcher(campaign, balsam_home))
    (attempt,) = wait_until(
        lambda: [each for each in campaign.attempts(job) if each.pid],
        lambda: status(run, number),
    )
    process = psutil.Process(attempt.pid)
    SGE.cancel(run, [number])
    assert wait_for(run, number, B.CANCELLED, B.FAILED).state is B.CANCELLED
    try:
        wait_until(lambda: not is_running(process.pid), seconds=5)
    finally:
        if process.is_running():
            process.kill()
    assert campaign.states() in ({"RUNNING": 1}, {"RESTART_READY": 1})


@pytest.mark.slow
def test_a_master_that_is_killed_knows_the_same_requests_again(
    run: Command, submit: Submit, engine: GridEngine, tmp_path: Path
) -> None:
    body = "until [ -e go ]; do sleep 0.1; done; exit 3"
    first, second = submit(body), submit(body, "balsam-2")
    wait_for(run, first, B.RUNNING)
    engine.kill_master()
    with pytest.raises(SchedulerAway, match=r"qstat: "):
        SGE.status(run, [first, second])
    with pytest.raises(SchedulerAway):
        submit(body, "balsam-3")
    with pytest.raises(SchedulerAway):
        SGE.cancel(run, [second])
    engine.start_master()

    def answers() -> dict[str, Status]:
        try:
            return SGE.status(run, [first, second])
        except SchedulerAway:
            return {}

    assert set(wait_until(answers)) == {first, second}
    (tmp_path / "go").touch()
    for number in (first, second):
        found = wait_for(run, number, B.FINISHED, B.FAILED)
        assert (found.state, found.exit_code) == (B.FAILED, 3)
    assert SGE.find(run, "balsam-2") == second
    assert SGE.find(run, "balsam-3") is None


@pytest.mark.slow
def test_what_cannot_be_written_is_told(run: Command, submit: Submit) -> None:
    number = submit("exit 0", output="/nonexistent/batch.out")
    held = wait_for(run, number, B.HELD)
    assert held.word == "Eqw"
    wait_until(lambda: "/nonexistent/batch.out" in _reason(run, number))
    assert SGE.history(run, [number]) == {}


@pytest.mark.slow
def test_a_queue_that_is_off_is_told(run: Command, submit: Submit, engine: GridEngine) -> None:
    engine.run("qmod", "-d", "all.q")
    try:
        (queue,) = wait_until(lambda: [q for q in SGE.queues(run) if not q.is_open])
        assert queue.comment == "no host takes its requests (d)"
        assert SGE.windows(run) == []
        number = submit("exit 0")
        wait_until(lambda: "disabled" in _reason(run, number), lambda: status(run, number))
    finally:
        engine.run("qmod", "-e", "all.q")
    assert wait_for(run, number, B.FINISHED).exit_code == 0


def _reason(run: Command, number: str) -> str:
    found = status(run, number)
    return found.reason if found else ""
