"""What `balsam why` says while a real launcher runs."""

from __future__ import annotations

import os
import signal

from balsam.model.query import ALL
from balsam.report import why
from balsam.report.reasons.reason import Reason
from tests.integration.conftest import Campaign, Start, wait_until


def reasons(campaign: Campaign) -> dict[int, Reason]:
    return {each.id: each.reason for each in why.explain(campaign.client, ALL)}


def groups(campaign: Campaign) -> dict[Reason, int]:
    found: dict[Reason, int] = {}
    for group in why.explain_all(campaign.client):
        found[group.reason] = found.get(group.reason, 0) + group.count
    return found


def test_jobs_of_a_launcher_that_is_full(campaign: Campaign, start: Start) -> None:
    """Some run, some are in its stock, all others wait for a place; each says so."""
    cores = os.cpu_count() or 1
    campaign.app("wait", f"#\nuntil [ -e {campaign.site}/go ]; do sleep 0.05; done")
    count = 200 * cores
    ids = campaign.jobs("wait", *(f"j{i}" for i in range(count)))
    wide = campaign.job("wait", "wide", num_nodes=2)
    child = campaign.job("wait", "child", parents=[wide])
    launcher = start("--idle-seconds", "0")

    def settled() -> bool:
        found = groups(campaign)
        return found.get(Reason.RUNNING, 0) == cores and Reason.BUSY in found

    wait_until(settled, lambda: (groups(campaign), launcher.output))
    counted = groups(campaign)
    assert counted[Reason.IN_STOCK] + counted[Reason.BUSY] == count - cores
    assert (counted[Reason.TOO_FEW_NODES], counted[Reason.PARENTS]) == (1, 1)
    assert sum(counted.values()) == count + 2
    each = reasons(campaign)
    assert each[ids[0]] is Reason.RUNNING
    assert each[ids[-1]] is Reason.BUSY
    assert each[wide] is Reason.TOO_FEW_NODES
    assert each[child] is Reason.PARENTS
    (campaign.site / "go").touch()
    launcher.wait()
    left = reasons(campaign)
    assert {left[n] for n in ids} == {Reason.FINISHED}
    assert left[wide] is Reason.TOO_FEW_NODES
    assert groups(campaign) == {Reason.TOO_FEW_NODES: 1, Reason.PARENTS: 1}


def test_jobs_that_a_launcher_does_not_take(campaign: Campaign, start: Start) -> None:
    taken = campaign.job("true", "taken", workflow="scan")
    left = campaign.job("true", "left", workflow="rest")
    launcher = start("--wf-filter", "scan", "--persistent")
    wait_until(lambda: reasons(campaign)[taken] is Reason.FINISHED, lambda: launcher.output)
    assert reasons(campaign)[left] is Reason.OTHER_WORKFLOW
    assert groups(campaign) == {Reason.OTHER_WORKFLOW: 1}
    launcher.process.send_signal(signal.SIGTERM)
    launcher.wait()
    assert reasons(campaign)[left] is Reason.NO_LAUNCHER
