"""The service is killed at any moment: nothing is asked for twice, and nothing is forgotten."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import psutil
import pytest

from balsam.model.batch_job import BatchState
from balsam.model.states import State
from tests.contract.schedulers import world
from tests.contract.schedulers.fake_system import FakeSystem
from tests.contract.schedulers.system import Fault
from tests.integration.conftest import Campaign, stop_between_transactions, wait_until
from tests.integration.service.conftest import Serve, Service

Configure = Callable[..., None]
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
QUEUES = '[[queue]]\nname = "q"\nmax_minutes = 4\n'


def names_known(home: Path) -> Counter[str]:
    """How often `local` knows each name: every request it ever took."""
    found: Counter[str] = Counter()
    for file in (home / "local").rglob("*.json"):
        text = file.read_text()
        if '"name":"' in text:
            found[text.split('"name":"')[1].split('"')[0]] += 1
    return found


def test_a_service_that_is_killed_all_the_time_forgets_nothing(
    campaign: Campaign, configure: Configure, serve: Serve, balsam_home: Path
) -> None:
    configure("target_minutes = 1\n[queues.q]\nmax_queued = 4\n", "max_running = 2\n" + QUEUES)
    jobs = campaign.jobs("true", *(f"j{n}" for n in range(40)))
    random = Random(5)
    for _ in range(6):
        service = serve()
        service.wait_until_registered()
        # From the first look on anything may be on its way.
        wait_until_not(service, random.uniform(0.0, 0.6))
        service.process.kill()
        service.process.wait()
    service = serve()
    service.wait_for_jobs(len(jobs))
    service.wait_until_quiet()
    assert all(len(campaign.attempts(job)) == 1 for job in jobs)
    asked = names_known(balsam_home)
    assert set(asked.values()) == {1}
    assert set(asked) <= {each.name for each in service.batch_jobs}
    taken = [each.name for each in service.batch_jobs if each.scheduler_id]
    assert set(asked) == set(taken)


def wait_until_not(service: Service, seconds: float) -> None:
    """Give the service some time, which it does not end by itself."""
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(service.process.pid).wait(seconds)


@on_sqlite
def test_a_service_that_is_killed_is_followed_at_once(campaign: Campaign, serve: Serve) -> None:
    """Its lease is not waited for: its process is seen to be gone."""
    one = serve()
    one.wait_until_registered()
    one.process.kill()
    one.process.wait()
    other = serve()
    other.wait_until_registered()
    assert "service 2 started" in other.said


@on_sqlite
def test_a_service_that_was_stopped_for_long_gives_way(
    campaign: Campaign, configure: Configure, serve: Serve
) -> None:
    one = serve()
    one.wait_until_registered()
    stop_between_transactions(campaign, one.process)
    try:
        found: list[Service] = []

        def other_lives() -> bool:
            if not found or found[-1].process.poll() is not None:
                found.append(serve())
            info = campaign.client.service()
            return info is not None and info.pid == found[-1].process.pid

        wait_until(other_lives, one.tell)
    finally:
        one.process.send_signal(signal.SIGCONT)
    assert one.process.wait(30) != 0
    campaign.job("true")
    found[-1].wait_for_jobs(1)
    found[-1].wait_until_quiet()
    assert len(found[-1].batch_jobs) == 1


@on_sqlite
def test_a_submission_whose_answer_was_lost_with_the_service_is_found(
    campaign: Campaign, fake: FakeSystem, serve: Serve, tmp_path: Path
) -> None:
    """The batch system takes the request, and does not come to answer before we are killed."""
    fake.fault(Fault.HANGS, only_submission=True)
    campaign.job("true")
    service = serve()
    service.wait_for(lambda: requests(tmp_path))
    children = psutil.Process(service.process.pid).children(recursive=True)
    service.process.kill()
    service.process.wait()
    for child in children:
        child.kill()
    (batch,) = service.batch_jobs
    assert batch.state is BatchState.PENDING_SUBMISSION
    fake.fault(None)
    campaign.client.update_batch_job(batch.id or 0, {"message": "its answer was lost"})
    again = serve()
    again.wait_for(lambda: again.batch_jobs[0].state is BatchState.QUEUED)
    assert [each.name for each in requests(tmp_path)] == [again.batch_jobs[0].name]
    assert len(again.batch_jobs) == 1


def requests(path: Path) -> list[world.Request]:
    with world.opened(path / "fake" / "world.json") as state:
        return list(state.requests)


def test_jobs_of_a_launcher_that_dies_run_again(
    campaign: Campaign, configure: Configure, serve: Serve
) -> None:
    configure("[launcher]\nlease_seconds = 6\n")
    campaign.app("twice", "if [ -e once ]; then exit 0; fi\ntouch once\nexec sleep 600\n")
    job = campaign.job("twice")
    service = serve()
    campaign.wait_for(job, State.RUNNING)
    wait_until((Path(campaign.get(job).workdir) / "once").exists)
    for process in tree(campaign):
        with suppress(psutil.NoSuchProcess):  # it ended with its parent
            process.kill()
    service.wait_for_jobs(1)
    service.wait_until_quiet()
    assert [each.outcome for each in campaign.attempts(job)][-1] == "done"
    first, *others = service.batch_jobs
    assert first.state is BatchState.FAILED
    assert first.message
    assert others
    assert any(f"batch job {first.id} " in line for line in service.status.news)


def tree(campaign: Campaign) -> list[psutil.Process]:
    """All processes of the batch job that runs: its script became the launcher."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if "--batch-job" in words and str(campaign.site) in words:
                found += [process, *process.children(recursive=True)]
        except psutil.Error:
            continue
    assert found, "no batch job runs"
    return found
