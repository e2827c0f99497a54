"""A host is cut off from the others, for a while."""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest

from balsam.model.states import State
from balsam.model.wire import Outcome, parts_of
from tests.hosts import Hosts
from tests.integration.conftest import Campaign, wait_until
from tests.integration.hosts.conftest import Pilot, StartPilot

S = State
#: Seconds for which the host is away in the longest test: longer than until it is taken for lost.
CUT = float(os.environ.get("BALSAM_TEST_CUT_SECONDS", "17"))
#: Notes the start and the end of each run; the first takes as long as it is told.
NOTED = """#
echo start $BALSAM_JOB_ID >> {file}
if [ $BALSAM_ATTEMPT = 1 ]; then sleep ${{1:-1}}; fi
echo end $BALSAM_JOB_ID >> {file}
"""


class Notes:
    """What the runs of the app 'noted' wrote."""

    def __init__(self, campaign: Campaign) -> None:
        self._file = campaign.site / "notes"
        self._file.touch()
        campaign.app("noted", NOTED.format(file=self._file))

    def count(self, what: str) -> Counter[str]:
        """Return how often each job, by its UUID, has written the word."""
        words = [line.split() for line in self._file.read_text().splitlines()]
        return Counter(job for kind, job in words if kind == what)


def add(campaign: Campaign, kind: str, count: int, **fields: object) -> list[int]:
    return campaign.jobs("noted", *(f"{kind}{number}" for number in range(count)), **fields)


def wait_for_all(campaign: Campaign, pilot: Pilot) -> None:
    wait_until(
        lambda: set(campaign.states()) == {"JOB_FINISHED"},
        lambda: f"{campaign.states()}\n{pilot.launcher.output}",
    )


def nodes_of(campaign: Campaign, jobs: list[int]) -> set[str]:
    return {attempt.node for attempt in campaign.client.attempts(jobs)}


def end(pilot: Pilot) -> None:
    pilot.launcher.process.terminate()
    pilot.launcher.wait()


@pytest.mark.slow
def test_a_host_that_is_cut_off_costs_nothing_but_time(
    campaign: Campaign, hosts: Hosts, pilot: StartPilot
) -> None:
    """Its jobs run elsewhere, uncharged; it stops what it runs by itself, and joins again."""
    notes = Notes(campaign)
    long = add(campaign, "long", 16, args="12", priority=1)
    jobs = long + add(campaign, "short", 100)
    started = pilot("--persistent", settings={"nodes.silence_seconds": 5})
    on_h3 = wait_until(
        lambda: [a.job for a in campaign.client.attempts(long) if a.node == "h3"],
        lambda: started.launcher.output,
    )
    first = started.guardian(3).pid
    hosts.cut(3)
    cut_at = time.monotonic()
    wait_until(lambda: not started.programs(3), lambda: started.programs(3))
    wait_until(lambda: not started.workers(3), lambda: started.workers(3))
    hosts.cut_for(3, cut_at + CUT - time.monotonic())
    assert started.guardian(3).pid != first
    jobs += (after := add(campaign, "after", 64))
    wait_for_all(campaign, started)
    assert nodes_of(campaign, after) == set(hosts.names)
    end(started)
    executed, ended = notes.count("start"), notes.count("end")
    lost = set()
    for job in jobs:
        found = campaign.get(job)
        assert campaign.path(job).split().count("JOB_FINISHED") == 1, campaign.tell(job)
        outcomes = Counter(attempt.outcome for attempt in campaign.attempts(job))
        assert outcomes[Outcome.DONE] == 1, campaign.tell(job)
        assert set(outcomes) <= {Outcome.DONE, Outcome.LOST}, campaign.tell(job)
        assert 1 <= executed[found.job_id] <= outcomes.total(), campaign.tell(job)
        assert ended[found.job_id] == 1, "what had ended there was run again"
        assert found.retries == 0
        lost |= {job} if outcomes[Outcome.LOST] else set()
    assert lost >= set(on_h3)


@pytest.mark.slow
def test_a_short_cut_loses_nothing(campaign: Campaign, hosts: Hosts, pilot: StartPilot) -> None:
    """What ran goes on, what ended meanwhile is told afterwards; nothing runs again."""
    notes = Notes(campaign)
    jobs = add(campaign, "j", 100)
    started = pilot("--persistent")
    wait_until(lambda: "h3" in nodes_of(campaign, jobs), lambda: started.launcher.output)
    first = started.guardian(3).pid
    hosts.cut_for(3, 5)
    wait_for_all(campaign, started)
    assert started.guardian(3).pid == first
    assert nodes_of(campaign, jobs) == set(hosts.names)
    end(started)
    assert list(notes.count("start").values()) == [1] * len(jobs)
    outcomes = [attempt.outcome for attempt in campaign.client.attempts(jobs)]
    assert outcomes == [Outcome.DONE] * len(jobs)


@pytest.mark.slow
def test_a_parallel_job_on_a_host_that_is_cut_off_runs_again_elsewhere(
    campaign: Campaign, hosts: Hosts, pilot: StartPilot
) -> None:
    campaign.app("pair", "#\n[ $BALSAM_ATTEMPT = 1 ] || exit 0; exec sleep 1000")
    job = campaign.job("pair", num_nodes=2, ranks_per_node=4)
    started = pilot(settings={"nodes.silence_seconds": 5})
    campaign.wait_for(job, S.RUNNING)
    *_, last = parts_of(campaign.attempts(job)[0].placement)
    number = int(last.node.removeprefix("h"))
    wait_until(lambda: started.programs(number), lambda: campaign.tell(job))
    hosts.cut(number)
    campaign.wait_for(job, S.JOB_FINISHED)
    wait_until(lambda: not started.programs(number), lambda: started.programs(number))
    hosts.heal(number)
    started.launcher.wait()
    outcomes = [attempt.outcome for attempt in campaign.attempts(job)]
    assert outcomes == [Outcome.LOST, Outcome.DONE]
    assert campaign.get(job).retries == 0
