"""kill -9, and orders to end, on several hosts: nothing is left on any."""

from __future__ import annotations

import signal

import pytest

from balsam.model.query import Query
from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.hosts import Hosts
from tests.integration.conftest import Campaign, wait_until
from tests.integration.hosts.conftest import Pilot, StartPilot, installed

S = State
#: The first run waits for a file, and does not end when it is asked to; others end at once.
FIRST_WAITS = """#
trap '' TERM
[ $BALSAM_ATTEMPT = 1 ] || exit 0
until [ -e {go} ]; do sleep 0.1; done
"""
#: Ends only by SIGKILL.
STUBBORN = "#\ntrap '' TERM INT HUP; while :; do sleep 0.1; done"


def count(started: Pilot, number: int, script: str) -> int:
    """Return how many processes of a script there are on a host."""
    words = started.programs(number).values()
    return sum(line.startswith("/bin/sh") and line.endswith(f"/{script}") for line in words)


def kill_worker(_hosts: Hosts, started: Pilot) -> None:
    started.worker(3).kill()


def kill_guardian(_hosts: Hosts, started: Pilot) -> None:
    started.guardian(3).kill()


def kill_all(hosts: Hosts, _started: Pilot) -> None:
    """With the session of ssh, by which it is reached."""
    hosts.kill_all(3)


@pytest.mark.parametrize("kill", [kill_worker, kill_guardian, kill_all])
def test_the_jobs_of_a_host_run_again_elsewhere_and_it_is_used_again(
    campaign: Campaign, hosts: Hosts, pilot: StartPilot, kill: object
) -> None:
    assert callable(kill)
    go = campaign.site / "go"
    campaign.app("wait", FIRST_WAITS.format(go=go))
    jobs = campaign.jobs("wait", *(f"j{number}" for number in range(14)))
    started = pilot("--persistent", settings={"nodes.silence_seconds": 5})

    def running() -> dict[str, list[int]]:
        on: dict[str, list[int]] = {}
        for attempt in campaign.client.attempts(jobs):
            on.setdefault(attempt.node, []).append(attempt.job)
        return on if sum(map(len, on.values())) == len(jobs) else {}

    on = wait_until(running, lambda: started.launcher.output)
    wait_until(
        lambda: all(count(started, int(host[1:]), "wait.sh") == len(on[host]) for host in on)
    )
    first = started.guardian(3).pid
    left = set(started.programs(3))
    kill(hosts, started)
    wait_until(
        lambda: all(campaign.state(job) == S.JOB_FINISHED for job in on["h3"]),
        lambda: campaign.tell(on["h3"][0]),
    )
    assert not left & set(started.programs(3))
    for job in on["h3"]:
        lost, done = campaign.attempts(job)
        assert (lost.outcome, done.outcome) == (Outcome.LOST, Outcome.DONE), campaign.tell(job)
        assert lost.node == "h3"
        assert campaign.get(job).retries == 0
    for number in (1, 2, 4):
        for job in on[f"h{number}"]:
            assert len(campaign.attempts(job)) == 1, campaign.tell(job)
    wait_until(lambda: started.workers(3) and started.guardian(3).pid != first)
    go.touch()
    more = campaign.jobs("wait", *(f"more{number}" for number in range(16)))
    wait_until(lambda: set(campaign.states()) == {"JOB_FINISHED"}, campaign.states)
    assert "h3" in {attempt.node for attempt in campaign.client.attempts(more)}
    started.launcher.process.terminate()
    started.launcher.wait()


@pytest.mark.parametrize("mpi", ["mpich", "openmpi"])
def test_a_parallel_job_that_is_killed_leaves_nothing_on_any_host(
    campaign: Campaign, pilot: StartPilot, mpi: str
) -> None:
    installed(f"mpirun.{mpi}")
    campaign.app("stubborn", STUBBORN)
    job = campaign.job("stubborn", num_nodes=2, ranks_per_node=2)
    other = campaign.job("stubborn", "other", num_nodes=2, ranks_per_node=2)
    settings = {"mpi.command": mpi, "launcher.grace_seconds": 0.5}
    started = pilot("--limit-nodes", "2", settings=settings)
    for number in (1, 2):
        wait_until(
            lambda n=number: count(started, n, "stubborn.sh") == 4, lambda: campaign.tell(job)
        )
    campaign.client.kill_jobs(Query().where(id=job))
    for number in (1, 2):  # the other, on the same nodes, goes on
        wait_until(
            lambda n=number: count(started, n, "stubborn.sh") == 2,
            lambda n=number: started.programs(n),
        )
    assert campaign.state(job) == S.USER_KILLED
    assert campaign.state(other) == S.RUNNING
    campaign.client.kill_jobs(Query().where(id=other))
    for number in (1, 2):
        wait_until(lambda n=number: not started.programs(n), lambda n=number: started.programs(n))
    started.launcher.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_launcher_is_the_end_on_every_host(
    campaign: Campaign, hosts: Hosts, pilot: StartPilot, number: signal.Signals
) -> None:
    campaign.app("stubborn", STUBBORN)
    campaign.jobs("stubborn", *(f"j{n}" for n in range(8)))
    campaign.job("stubborn", "pair", num_nodes=2)
    started = pilot(settings={"nodes.silence_seconds": 5, "launcher.grace_seconds": 0.5})
    wait_until(
        lambda: sum(count(started, n, "stubborn.sh") for n in (1, 2, 3, 4)) == 10,
        lambda: started.launcher.output,
    )
    started.launcher.process.send_signal(number)
    if number != signal.SIGKILL:
        started.launcher.wait(130 if number == signal.SIGINT else 0)
        assert campaign.states() == {"RESTART_READY": 9}, started.launcher.output
    started.launcher.process.wait()
    hosts.wait_until_empty()
