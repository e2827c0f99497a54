"""Futures of 0.x on a real site."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balsam.api import Site
from balsam.client.local import LocalClient
from balsam.core.models import ApplicationDefinition, BalsamJob
from balsam.launcher import dag
from balsam.launcher.futures import FutureTask, TaskFailed, WaitResult, wait
from balsam.model.wire import Outcome
from tests.contract.pilot import Clock, Pilot


@pytest.fixture
def used(site: Path, client: LocalClient, clock: Clock) -> Iterator[Site]:
    """A new site on each database, in use, at a time when no job is held back any more."""
    used = Site.use(site)
    ApplicationDefinition(name="echo", executable="/bin/echo").save()
    clock.now = 4e9
    yield used
    used.close()


def future(name: str, fail: Any = None, *args: Any, **keywords: Any) -> FutureTask:
    job = BalsamJob(name=name, workflow="w", application="echo")
    job.save()
    return FutureTask(job, told, fail, *args, **keywords)


def told(job: BalsamJob, *args: Any, **keywords: Any) -> tuple[Any, ...]:
    return job.name, job.state, args, keywords


def test_results(used: Site, client: LocalClient, clock: Clock) -> None:
    good = future("good", None, 1, key=2)
    bad, dead, open_ = (future(name) for name in ("bad", "dead", "open"))
    assert good.active
    pilot = Pilot(client, clock)
    leased = {job.name: job for job in pilot.lease()}
    pilot.run(leased["good"])
    pilot.run(leased["bad"], outcome=Outcome.ERROR)
    dead.cancel()
    assert (good.done, bad.failed, dead.cancelled, open_.active) == (True, True, True, True)
    assert good.result() is good.result()
    assert good.result() == ("good", "JOB_FINISHED", (1,), {"key": 2})
    assert dead.result() is None
    with pytest.raises(TaskFailed, match="bad"):
        bad.result()
    with pytest.raises(TimeoutError):
        open_.result(timeout=0.01)
    good.task_args = "mine"
    assert repr(good).endswith("done>")
    again = FutureTask(bad._job, print, lambda job: f"{job.name} failed")
    assert again.result() == "bad failed"


def test_waiting(used: Site, client: LocalClient, clock: Clock) -> None:
    """Fault R: waiting for nothing did not end; a failed future was another error."""
    assert wait([]) == WaitResult([], [], [], [])
    futures = {name: future(name) for name in "abc"}
    with pytest.raises(TimeoutError, match="3 of 3"):
        wait(futures.values(), timeout=0.01)
    dag.kill(futures["a"]._job)
    found = wait(futures.values(), return_when="ANY_COMPLETED", poll_period=60)
    assert (found.cancelled, len(found.active)) == ([futures["a"]], 2)
    futures["b"]._job.delete()
    with pytest.raises(TimeoutError):
        wait(futures.values(), timeout=0.01, return_when="ALL_COMPLETED")
    pilot = Pilot(client, clock)
    (leased,) = [job for job in pilot.lease() if job.name == "c"]
    ending = threading.Thread(target=pilot.run, args=[leased])
    ending.start()
    found = wait(futures.values(), timeout=60, return_when="ALL_COMPLETED", poll_period=60)
    ending.join()
    assert (found.done, found.cancelled) == ([futures["c"]], [futures["a"], futures["b"]])
    assert found == wait(futures.values())
    with pytest.raises(ValueError, match="ANY_COMPLETED"):
        wait(futures.values(), return_when="FIRST")  # type: ignore[arg-type]
