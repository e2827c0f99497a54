"""Reports of launchers: applied once, fenced by the lease, refused and recorded when late."""

from __future__ import annotations

from typing import Any

import pytest

from balsam.client.local import LocalClient
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.states import STATES, State, legal
from balsam.model.wire import Move, Outcome, Placement, placement_text
from tests.contract.pilot import Clock, Pilot, add, brought_to, everything, history, job, states

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
    """Fault S7: what is told of others in the same report is applied."""
    kept, gone = add(client, "kept", "gone")
    leased = pilot.lease()
    client.delete_jobs(ALL.where(id=gone))
    moves = [move for one in reversed(leased) for move in pilot.path(one, S.RUNNING, S.RUN_ERROR)]
    attempts = [pilot.attempt(one, Outcome.ERROR) for one in reversed(leased)]
    refused = pilot.report(moves=moves, attempts=attempts)
    assert {(refusal.job, refusal.state) for refusal in refused} == {(gone, "")}
    assert {event.job for event in client.events(ALL)} == {kept}
    assert client.attempts([gone]) == []
    assert states(client, [kept]) == [S.RUN_ERROR]
    assert [attempt.outcome for attempt in client.attempts([kept])] == [Outcome.ERROR]


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


def test_a_job_killed_as_it_started_does_not_use_its_number_again(
    client: LocalClient, pilot: Pilot
) -> None:
    """Its start was not recorded yet; the execution is, and the next one is the second."""
    (one,) = add(client, "one")
    leased = pilot.lease()
    client.kill_jobs(ALL)
    assert len(pilot.start(*leased)) == 1
    pilot.report(released=[one])
    assert job(client, one).attempt == 1
    client.rerun_jobs(ALL)
    pilot.start(*pilot.lease())
    assert [a.number for a in client.attempts([one])] == [1, 2]


def test_where_a_run_was_is_kept(client: LocalClient, pilot: Pilot) -> None:
    leased = leased_one(client, pilot)
    text = placement_text([Placement(node="n1", cores="0-3", count=4.0, gpus={"0": 0.25})])
    attempt = pilot.attempt(leased, Outcome.RUNNING)
    attempt.placement = text
    pilot.report(moves=pilot.path(leased, S.RUNNING), attempts=[attempt])
    assert [a.placement for a in client.attempts([leased.id or 0])] == [text]
