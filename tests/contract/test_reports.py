"""Reports of launchers: applied once, fenced by the lease, refused and recorded when late."""

from __future__ import annotations

from typing import Any

import pytest

from balsam.client.local import LocalClient
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.states import STATES, State, legal
from balsam.model.wire import Attempt, Move, Outcome, Report
from tests.contract.pilot import Clock, Pilot, add, history, job, states
from tests.contract.test_jobs import brought_to, everything

S = State


def leased_one(client: LocalClient, pilot: Pilot, **fields: Any) -> Job:
    add(client, "x", **fields)
    (leased,) = pilot.lease()
    return leased


def test_a_run_from_end_to_end(client: LocalClient, pilot: Pilot, clock: Clock) -> None:
    leased = leased_one(client, pilot)
    started = clock.now
    assert pilot.start(leased) == []
    found = job(client, leased.id or 0)
    assert (found.state, found.attempt, found.launcher_id) == (S.RUNNING, 1, pilot.id)
    clock.now += 7
    assert pilot.end(leased) == []
    found = job(client, leased.id or 0)
    assert (found.state, found.exit_code, found.launcher_id) == (S.JOB_FINISHED, 0, None)
    (attempt,) = client.attempts([leased.id or 0])
    assert (attempt.outcome, attempt.exit_code, attempt.ended_at) == (Outcome.DONE, 0, clock.now)
    assert attempt.launcher_id == pilot.id
    assert started < clock.now


def test_all_of_a_short_run_in_one_report(client: LocalClient, pilot: Pilot) -> None:
    leased = leased_one(client, pilot, input_files="*")
    assert leased.state is S.READY
    moves = pilot.path(
        leased, S.STAGED_IN, S.PREPROCESSED, S.RUNNING, S.RUN_DONE, S.POSTPROCESSED, S.JOB_FINISHED
    )
    assert pilot.report(moves=moves, attempts=[pilot.attempt(leased, Outcome.DONE)]) == []
    expected = [(move.from_state, move.to_state) for move in moves]
    assert history(client, leased.id or 0) == [("", "READY"), *expected]


def test_moves_keep_their_own_times_and_messages(
    client: LocalClient, pilot: Pilot, clock: Clock
) -> None:
    leased = leased_one(client, pilot)
    id_ = leased.id or 0
    moves = [
        Move(id_, 1, S.PREPROCESSED, S.RUNNING, clock.now + 1.5, "on node1"),
        Move(id_, 1, S.RUNNING, S.RUN_ERROR, clock.now + 2.25, "exit code 3"),
    ]
    clock.now += 100
    pilot.report(moves=moves)
    told = [(event.time, event.message) for event in client.events(ALL)][1:]
    assert told == [(move.time, move.message) for move in moves]


def test_a_retry_is_charged_and_a_timeout_is_not(client: LocalClient, pilot: Pilot) -> None:
    add(client, "x", max_retries=5)
    ways = [
        ((S.RUN_ERROR, S.RESTART_READY), 1),
        ((S.RUN_TIMEOUT, S.RESTART_READY), 1),
        ((S.RESTART_READY,), 1),
        ((S.RUN_ERROR, S.RESTART_READY), 2),
    ]
    for way, retries in ways:
        (leased,) = pilot.lease()
        moves = pilot.path(leased, S.RUNNING, *way)
        assert pilot.report(moves=moves, released=[leased.id]) == []
        assert job(client, leased.id or 0).retries == retries


def test_a_job_that_ends_is_free_and_releases_its_children(
    client: LocalClient, pilot: Pilot
) -> None:
    leased = leased_one(client, pilot)
    (child,) = add(client, "child", parents=[leased.id])
    pilot.report(moves=pilot.path(leased, S.RUNNING, S.RUN_DONE, S.JOB_FINISHED))
    assert job(client, leased.id or 0).launcher_id is None
    assert states(client, [child]) == [S.PREPROCESSED]


def test_many_jobs_in_one_report(client: LocalClient, pilot: Pilot) -> None:
    parents = add(client, *(f"p{i}" for i in range(200)))
    (child,) = add(client, "child", parents=parents)
    pilot.run(*pilot.lease())
    assert client.state_counts(ALL) == {S.JOB_FINISHED: 200, S.PREPROCESSED: 1}
    assert len(client.attempts([*parents, child])) == 200


def test_an_empty_report(client: LocalClient, pilot: Pilot) -> None:
    add(client, "x")
    before = everything(client)
    assert pilot.report() == []
    assert everything(client) == before


# giving back ------------------------------------------------------------------------


def test_what_is_given_back_is_everybodys(
    client: LocalClient, pilot: Pilot, rival: Pilot, clock: Clock
) -> None:
    leased = leased_one(client, pilot)
    before = job(client, leased.id or 0)
    clock.now += 1
    pilot.report(released=[leased.id])
    found = job(client, leased.id or 0)
    assert (found.launcher_id, found.state) == (None, S.PREPROCESSED)
    assert found.updated_at == before.updated_at, "its state did not change"
    assert [job.id for job in rival.lease()] == [leased.id]


def test_nobody_gives_back_what_others_hold(
    client: LocalClient, pilot: Pilot, rival: Pilot
) -> None:
    leased = leased_one(client, pilot)
    rival.report(released=[leased.id, 999])
    assert job(client, leased.id or 0).launcher_id == pilot.id


def test_a_running_job_is_not_given_back(client: LocalClient, pilot: Pilot, rival: Pilot) -> None:
    """Nobody would ever look after it."""
    leased = leased_one(client, pilot)
    pilot.start(leased)
    pilot.report(released=[leased.id])
    assert job(client, leased.id or 0).launcher_id == pilot.id
    client.retire_launcher(pilot.id, "died", lost=True)
    assert [job.id for job in rival.lease()] == [leased.id]


# the fence --------------------------------------------------------------------------


@pytest.mark.parametrize("state", [s for s in STATES if s not in (S.CREATED, S.READY)])
def test_only_legal_moves_of_the_holder_are_applied(
    client: LocalClient, pilot: Pilot, rival: Pilot, state: State
) -> None:
    """Every move from every state, by the holder and by another launcher."""
    for target in STATES:
        id_ = brought_to(client, pilot, state)
        client.retire_launcher(pilot.id, "makes room") if state is not S.RUNNING else None
        holder = pilot if state is S.RUNNING else Pilot(client, pilot.clock)
        holder.lease()
        found = job(client, id_)
        attempt = found.attempt + (target is S.RUNNING)
        move = Move(id_, attempt, state, target, 1.0)
        before = everything(client)
        (refusal,) = rival.report(moves=[move])
        assert (refusal.job, refusal.state) == (id_, state)
        assert "lease" in refusal.reason
        assert everything(client) == before
        refusals = holder.report(moves=[move])
        if legal(state, target) and found.launcher_id == holder.id:
            assert refusals == []
            assert states(client, [id_]) == [target]
        else:
            assert [refusal.job for refusal in refusals] == [id_]
            assert everything(client) == before
        client.kill_jobs(ALL)
        client.retire_launcher(holder.id, "next")
        pilot = Pilot(client, pilot.clock)


@pytest.mark.parametrize(
    ("attempt", "old", "new"),
    [
        (2, S.PREPROCESSED, S.RUNNING),
        (0, S.PREPROCESSED, S.RUNNING),
        (1, S.RESTART_READY, S.RUNNING),
        (1, S.RUNNING, S.RUN_DONE),
        (0, S.PREPROCESSED, S.JOB_FINISHED),
    ],
)
def test_another_attempt_or_state_is_refused(
    client: LocalClient, pilot: Pilot, attempt: int, old: State, new: State
) -> None:
    leased = leased_one(client, pilot)
    before = everything(client)
    (refusal,) = pilot.report(moves=[Move(leased.id or 0, attempt, old, new, 1.0)])
    assert (refusal.job, refusal.state) == (leased.id, "PREPROCESSED")
    assert everything(client) == before


def test_one_illegal_move_and_none_of_the_job_is_applied(client: LocalClient, pilot: Pilot) -> None:
    bad, good = add(client, "bad", "good")
    first, second = pilot.lease()
    moves = [
        *pilot.path(first, S.RUNNING, S.RUN_DONE, S.RUNNING),
        *pilot.path(second, S.RUNNING, S.RUN_DONE),
    ]
    (refusal,) = pilot.report(moves=moves)
    assert (refusal.job, refusal.state) == (bad, "PREPROCESSED")
    assert states(client, [bad, good]) == [S.PREPROCESSED, S.RUN_DONE]
    assert history(client, bad) == [("", "PREPROCESSED")]
    assert job(client, bad).attempt == 0


def test_a_deleted_job_is_told_and_leaves_no_trace(client: LocalClient, pilot: Pilot) -> None:
    leased = leased_one(client, pilot)
    client.delete_jobs(ALL)
    moves = pilot.path(leased, S.RUNNING)
    (refusal,) = pilot.report(moves=moves, attempts=[pilot.attempt(leased, Outcome.RUNNING)])
    assert (refusal.job, refusal.state) == (leased.id, "")
    assert client.events(ALL) == []
    assert client.attempts([leased.id or 0]) == []


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
    client.delete_jobs(ALL.where(id=first))
    (refusal,) = pilot.end(*leased)
    assert (refusal.job, refusal.state) == (first, "")
    assert states(client, [second]) == [S.JOB_FINISHED]
    assert rival.lease() == []


# kills ------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.ERROR, Outcome.TIMEOUT])
def test_a_kill_is_not_overwritten(client: LocalClient, pilot: Pilot, outcome: Outcome) -> None:
    """Fault A8."""
    leased = leased_one(client, pilot)
    id_ = leased.id or 0
    (child,) = add(client, "child", parents_any=[id_])
    pilot.start(leased)
    client.kill_jobs(ALL.where(id=id_))
    (refusal,) = pilot.end(leased, outcome=outcome)
    assert (refusal.job, refusal.state) == (id_, "USER_KILLED")
    found = job(client, id_)
    assert (found.state, found.launcher_id) == (S.USER_KILLED, None)
    assert history(client, id_)[-1] == ("RUNNING", "USER_KILLED")
    assert client.attempts([id_])[0].outcome is outcome, "its end is on record all the same"
    assert states(client, [child]) == [S.PREPROCESSED]


def test_a_killed_job_runs_again_when_its_processes_are_gone(
    client: LocalClient, pilot: Pilot, rival: Pilot
) -> None:
    leased = leased_one(client, pilot)
    id_ = leased.id or 0
    pilot.start(leased)
    client.kill_jobs(ALL)
    assert client.rerun_jobs(ALL) == 0, "its launcher is still ending it"
    killed = pilot.attempt(leased, Outcome.KILLED)
    assert pilot.report(attempts=[killed], released=[id_]) == []
    assert client.attempts([id_])[0].outcome is Outcome.KILLED
    assert client.rerun_jobs(ALL) == 1
    rival.run(*rival.lease())
    assert states(client, [id_]) == [S.JOB_FINISHED]


def test_a_kill_before_the_start_is_told_to_the_launcher(client: LocalClient, pilot: Pilot) -> None:
    leased = leased_one(client, pilot)
    client.kill_jobs(ALL)
    (refusal,) = pilot.start(leased)
    assert refusal.state == "USER_KILLED"
    assert states(client, [leased.id or 0]) == [S.USER_KILLED]
