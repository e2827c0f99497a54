"""Reports that come twice, or too late: applied once, refused and recorded."""

from __future__ import annotations

from typing import Any

import pytest

from balsam.client.local import LocalClient
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.states import State
from balsam.model.wire import Attempt, Outcome, Report
from tests.contract.pilot import Clock, Pilot, add, everything, history, job, states

S = State


def leased_one(client: LocalClient, pilot: Pilot, **fields: Any) -> Job:
    add(client, "x", **fields)
    (leased,) = pilot.lease()
    return leased


# sent twice -------------------------------------------------------------------------


def reports_of_a_life(client: LocalClient, pilot: Pilot) -> list[Report]:
    """Reports that take two jobs through a retry to their end."""
    add(client, "a", "b", max_retries=1)
    first, second = pilot.lease()
    retry = (S.RUN_ERROR, S.RESTART_READY, S.RUNNING)
    last: list[Attempt] = [
        pilot.attempt(first, Outcome.DONE, 2),
        pilot.attempt(second, Outcome.TIMEOUT),
    ]
    whole = pilot.path(first, S.RUNNING, *retry, S.RUN_DONE, S.JOB_FINISHED)
    other = pilot.path(second, S.RUNNING, S.RUN_TIMEOUT, S.RESTART_READY)
    return [
        Report(moves=[whole[0], other[0]], attempts=[pilot.attempt(first, Outcome.RUNNING)]),
        Report(moves=whole[1:3], attempts=[pilot.attempt(first, Outcome.ERROR)]),
        Report(moves=[*whole[3:5], other[1]]),
        Report(moves=[*whole[5:], other[2]], attempts=last, released=[second.id or 0]),
    ]


@pytest.mark.parametrize("repeated", range(4))
def test_a_report_sent_twice_changes_nothing_and_refuses_nothing(
    client: LocalClient, pilot: Pilot, repeated: int
) -> None:
    """An answer that was lost on its way looks like this."""
    for report in reports_of_a_life(client, pilot)[: repeated + 1]:
        assert client.report(pilot.id, report) == []
    before = everything(client)
    assert client.report(pilot.id, report) == []
    assert everything(client) == before


def test_it_may_even_be_leased_to_another_by_then(
    client: LocalClient, pilot: Pilot, rival: Pilot
) -> None:
    for report in reports_of_a_life(client, pilot):
        client.report(pilot.id, report)
    assert len(rival.lease()) == 1
    before = everything(client)
    assert client.report(pilot.id, report) == []
    assert everything(client) == before


def test_a_journal_adds_what_is_missing(client: LocalClient, pilot: Pilot) -> None:
    """All reports as one, after any number of them had arrived."""
    reports = reports_of_a_life(client, pilot)
    whole = Report(
        moves=[move for report in reports for move in report.moves],
        attempts=reports[1].attempts + reports[3].attempts,
        released=reports[3].released,
    )
    client.report(pilot.id, reports[0])
    client.report(pilot.id, reports[1])
    assert client.report(pilot.id, whole) == []
    assert job(client, 1).retries == 1
    assert history(client, 1) == [
        ("", "PREPROCESSED"),
        ("PREPROCESSED", "RUNNING"),
        ("RUNNING", "RUN_ERROR"),
        ("RUN_ERROR", "RESTART_READY"),
        ("RESTART_READY", "RUNNING"),
        ("RUNNING", "RUN_DONE"),
        ("RUN_DONE", "JOB_FINISHED"),
    ]
    assert [(a.number, a.outcome) for a in client.attempts([1])] == [
        (1, Outcome.ERROR),
        (2, Outcome.DONE),
    ]
    before = everything(client)
    assert client.report(pilot.id, whole) == []
    assert everything(client) == before


def test_a_journal_is_replayed_after_others_have_gone_on(
    client: LocalClient, pilot: Pilot, rival: Pilot
) -> None:
    """What was applied in time stays as it is, and is not refused."""
    reports = reports_of_a_life(client, pilot)
    for report in reports:
        client.report(pilot.id, report)
    rival.run(*rival.lease())
    before = everything(client)
    whole = Report(
        moves=[move for report in reports for move in report.moves],
        attempts=reports[1].attempts + reports[3].attempts,
    )
    assert client.report(pilot.id, whole) == []
    assert everything(client) == before
    client.retire_launcher(pilot.id, "died", lost=True)
    assert client.report(pilot.id, whole) == []
    assert (client.jobs(ALL), client.events(ALL)) == before[:2]
    assert client.attempts([1, 2]) == before[2]


def test_of_a_late_journal_only_what_is_late_is_refused(client: LocalClient, pilot: Pilot) -> None:
    reports = reports_of_a_life(client, pilot)
    client.report(pilot.id, reports[0])
    client.report(pilot.id, reports[1])
    lost(client, pilot)
    whole = Report(
        moves=[move for report in reports for move in report.moves],
        attempts=reports[1].attempts + reports[3].attempts,
    )
    refusals = client.report(pilot.id, whole)
    assert sorted(refusal.job for refusal in refusals) == [1, 2]
    assert [(a.number, a.outcome) for a in client.attempts([1])] == [
        (1, Outcome.ERROR),
        (2, Outcome.REFUSED),
    ]


# too late ---------------------------------------------------------------------------


def lost(client: LocalClient, pilot: Pilot) -> None:
    client.retire_launcher(pilot.id, "launcher gave no sign of life", lost=True)


def test_a_lost_launchers_late_report_is_refused_and_recorded(
    client: LocalClient, pilot: Pilot
) -> None:
    leased = leased_one(client, pilot)
    pilot.start(leased)
    lost(client, pilot)
    before = client.jobs(ALL), client.events(ALL)
    (refusal,) = pilot.end(leased)
    assert (refusal.job, refusal.state) == (leased.id, "RESTART_READY")
    assert "lease" in refusal.reason
    assert (client.jobs(ALL), client.events(ALL)) == before
    (attempt,) = client.attempts([leased.id or 0])
    assert (attempt.number, attempt.outcome, attempt.exit_code) == (1, Outcome.REFUSED, 0)
    assert "done" in attempt.message


@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.ERROR])
@pytest.mark.parametrize("known", [True, False], ids=["start known", "start unknown"])
@pytest.mark.parametrize("progress", ["leased", "running", "ended"])
def test_both_executions_of_a_job_that_ran_twice_are_kept(
    client: LocalClient,
    pilot: Pilot,
    rival: Pilot,
    clock: Clock,
    outcome: Outcome,
    known: bool,
    progress: str,
) -> None:
    """The lost one is refused however far the second has come, and overwrites nothing."""
    leased = leased_one(client, pilot)
    id_ = leased.id or 0
    if known:
        pilot.start(leased)
    clock.now += 100
    lost(client, pilot)
    (again,) = rival.lease()
    if progress != "leased":
        rival.start(again)
    if progress == "ended":
        rival.end(again)
    clock.now += 100
    found, told = client.jobs(ALL), client.events(ALL)
    second = [a for a in client.attempts([id_]) if a.launcher_id == rival.id]

    ended = {Outcome.DONE: (S.RUN_DONE, S.JOB_FINISHED), Outcome.ERROR: (S.RUN_ERROR, S.FAILED)}
    report = Report(
        moves=pilot.path(leased, S.RUNNING, *ended[outcome]),
        attempts=[pilot.attempt(leased, outcome)],
    )
    for _ in range(2):
        refusals = client.report(pilot.id, report)
        assert [refusal.job for refusal in refusals] == [id_]
        assert (client.jobs(ALL), client.events(ALL)) == (found, told)
        attempts = client.attempts([id_])
        assert [a for a in attempts if a.launcher_id == rival.id] == second
        (refused,) = [a for a in attempts if a.launcher_id == pilot.id]
        assert (refused.outcome, refused.number) == (Outcome.REFUSED, 1)
    if progress == "leased":
        assert rival.start(again) == []
    if progress != "ended":
        assert rival.end(again) == []
    assert states(client, [id_]) == [S.JOB_FINISHED]
    assert len(client.attempts([id_])) == 2


def test_what_a_lost_launcher_says_of_an_exit_changes_no_job(
    client: LocalClient, pilot: Pilot, rival: Pilot
) -> None:
    leased = leased_one(client, pilot)
    lost(client, pilot)
    (again,) = rival.lease()
    rival.run(again)
    pilot.report(attempts=[pilot.attempt(leased, Outcome.ERROR)])
    assert job(client, leased.id or 0).exit_code == 0


def test_a_late_report_does_not_touch_the_others_of_its_launcher(
    client: LocalClient, pilot: Pilot, rival: Pilot
) -> None:
    """One job of a report was taken away (by its deletion), the other was not."""
    first, second = add(client, "a", "b")
    leased = pilot.lease()
    pilot.start(*leased)
    client.kill_jobs(ALL.where(id=first))
    pilot.report(released=[first])
    client.delete_jobs(ALL.where(id=first))
    (refusal,) = pilot.end(*leased)
    assert (refusal.job, refusal.state) == (first, "")
    assert states(client, [second]) == [S.JOB_FINISHED]
    assert rival.lease() == []
