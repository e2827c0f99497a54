"""Jobs moved by users: to another state, to run again, killed, removed."""

from __future__ import annotations

import pytest

from balsam.client.local import LocalClient
from balsam.errors import IllegalMove
from balsam.model.query import ALL, Query
from balsam.model.states import LIVE_STATES, STATES, State, may_ask
from balsam.model.wire import Outcome
from tests.contract.pilot import (
    IN_DATABASE,
    Clock,
    Pilot,
    add,
    brought_to,
    everything,
    history,
    job,
    states,
)

S = State


@pytest.mark.parametrize("state", IN_DATABASE)
def test_where_a_user_can_move_a_job(client: LocalClient, pilot: Pilot, state: State) -> None:
    for target in STATES:
        id_ = brought_to(client, pilot, state)
        before = job(client, id_), history(client, id_)
        if target != state and (state is S.USER_KILLED or not may_ask(state, target)):
            with pytest.raises(IllegalMove, match=f"job {id_}") as caught:
                client.move_jobs(ALL.where(id=id_), target, "because")
            assert "\n" not in str(caught.value)
            assert (job(client, id_), history(client, id_)) == before
            continue
        moved = client.move_jobs(ALL.where(id=id_), target, "because")
        if target == state:
            assert moved == 0
            assert (job(client, id_), history(client, id_)) == before
            continue
        assert moved == 1
        assert history(client, id_)[len(before[1])] == (state, target)
        found = job(client, id_)
        if target is not S.CREATED:
            assert found.state is target
        elif state is S.AWAITING_PARENTS:
            assert found.state is S.AWAITING_PARENTS
        else:
            assert found.state in (S.READY, S.PREPROCESSED)


@pytest.mark.parametrize("target", [S.CREATED, S.RESTART_READY, S.FAILED, S.JOB_FINISHED])
def test_a_running_job_can_only_be_killed(client: LocalClient, pilot: Pilot, target: State) -> None:
    running = brought_to(client, pilot, S.RUNNING)
    with pytest.raises(IllegalMove, match="kill it first"):
        client.move_jobs(ALL.where(id=running), target)
    assert states(client, [running]) == [S.RUNNING]


def test_one_that_cannot_move_and_none_moves(client: LocalClient, pilot: Pilot) -> None:
    movable = add(client, "a", "b")
    stuck = brought_to(client, pilot, S.JOB_FINISHED)
    before = everything(client)
    with pytest.raises(IllegalMove, match=f"job {stuck} is JOB_FINISHED"):
        client.move_jobs(ALL.where(id__in=[*movable, stuck]), S.FAILED)
    assert everything(client) == before


def test_a_move_has_its_event(client: LocalClient, clock: Clock) -> None:
    (id_,) = add(client, "a")
    clock.now += 5
    client.move_jobs(ALL, S.FAILED, "bad input")
    event = client.events(ALL)[-1]
    assert (event.job, event.from_state, event.to_state) == (id_, "PREPROCESSED", "FAILED")
    assert (event.time, event.message) == (clock.now, "bad input")
    assert event.job_id == str(client.identity.uuid(id_))
    assert job(client, id_).updated_at == clock.now


def test_back_to_created_starts_the_count_anew(client: LocalClient, pilot: Pilot) -> None:
    (id_,) = add(client, "a", max_retries=3)
    (leased,) = pilot.lease()
    pilot.report(
        moves=pilot.path(leased, S.RUNNING, S.RUN_ERROR, S.RESTART_READY),
        released=[id_],
        attempts=[pilot.attempt(leased, Outcome.ERROR)],
    )
    found = job(client, id_)
    assert (found.retries, found.exit_code, found.attempt) == (1, 1, 1)
    assert client.move_jobs(ALL, S.CREATED) == 1
    found = job(client, id_)
    assert (found.state, found.retries, found.exit_code, found.attempt) == (
        S.PREPROCESSED,
        0,
        None,
        1,
    )


# rerun ------------------------------------------------------------------------------


@pytest.mark.parametrize("state", IN_DATABASE)
def test_rerun_takes_what_has_ended(client: LocalClient, pilot: Pilot, state: State) -> None:
    id_ = brought_to(client, pilot, state)
    before = everything(client)
    if state in LIVE_STATES:
        assert client.rerun_jobs(ALL.where(id=id_)) == 0
        assert everything(client) == before
    else:
        assert client.rerun_jobs(ALL.where(id=id_)) == 1
        assert states(client, [id_]) == [S.PREPROCESSED]
        assert pilot.run_all() == [id_]
        assert states(client, [id_]) == [S.JOB_FINISHED]


def test_a_job_that_runs_again_keeps_its_history(client: LocalClient, pilot: Pilot) -> None:
    (id_,) = add(client, "a")
    pilot.run_all(Outcome.ERROR)
    client.rerun_jobs(ALL)
    pilot.run_all(Outcome.DONE)
    assert history(client, id_) == [
        ("", "PREPROCESSED"),
        ("PREPROCESSED", "RUNNING"),
        ("RUNNING", "RUN_ERROR"),
        ("RUN_ERROR", "FAILED"),
        ("FAILED", "CREATED"),
        ("CREATED", "PREPROCESSED"),
        ("PREPROCESSED", "RUNNING"),
        ("RUNNING", "RUN_DONE"),
        ("RUN_DONE", "JOB_FINISHED"),
    ]
    attempts = client.attempts([id_])
    assert [(a.number, a.outcome, a.exit_code) for a in attempts] == [
        (1, Outcome.ERROR, 1),
        (2, Outcome.DONE, 0),
    ]
    assert job(client, id_).attempt == 2


# kill -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", IN_DATABASE)
def test_kill_takes_what_lives(client: LocalClient, pilot: Pilot, state: State) -> None:
    """Fault A8: a job that has ended is not killed."""
    id_ = brought_to(client, pilot, state)
    before = everything(client)
    killed = client.kill_jobs(ALL.where(id=id_))
    if state in LIVE_STATES:
        assert killed == [id_]
        assert states(client, [id_]) == [S.USER_KILLED]
        assert history(client, id_)[-1] == (state, "USER_KILLED")
    else:
        assert killed == []
        assert everything(client) == before


def test_kill_counts_only_the_living(client: LocalClient) -> None:
    ids = add(client, "a", "b", "c")
    client.kill_jobs(ALL.where(id=ids[1]))
    assert sorted(client.kill_jobs(ALL)) == [ids[0], ids[2]]
    assert client.kill_jobs(ALL) == []


# delete -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", IN_DATABASE)
def test_delete(client: LocalClient, pilot: Pilot, state: State) -> None:
    id_ = brought_to(client, pilot, state)
    if state is S.RUNNING:
        before = everything(client)
        with pytest.raises(IllegalMove, match=f"job {id_} is running"):
            client.delete_jobs(ALL)
        assert everything(client) == before
        return
    assert client.delete_jobs(ALL.where(id=id_)) == 1
    assert client.jobs(ALL.where(id=id_)) == []
    assert client.attempts([id_]) == []
    assert history(client, id_) == []
    assert client.dependencies([id_]) == []
    assert client.delete_jobs(ALL.where(id=id_)) == 0


def test_delete_of_a_slice(client: LocalClient) -> None:
    add(client, *"abcde")
    assert client.delete_jobs(Query(order=("-id",), limit=2)) == 2
    assert [job.name for job in client.jobs(ALL)] == ["a", "b", "c"]


def test_a_killed_job_is_removed_only_when_its_launcher_has_heard(
    client: LocalClient, pilot: Pilot, clock: Clock
) -> None:
    (one,) = add(client, "one")
    leased = pilot.lease()
    pilot.start(*leased)
    client.kill_jobs(ALL)
    with pytest.raises(IllegalMove, match="being ended"):
        client.delete_jobs(ALL)
    assert states(client, [one]) == [State.USER_KILLED]
    assert client.renew(pilot.id, 60).killed == [one]
    pilot.report(released=[one])
    assert client.delete_jobs(ALL) == 1


def test_a_killed_job_of_a_launcher_that_is_gone_can_be_removed(
    client: LocalClient, pilot: Pilot, clock: Clock
) -> None:
    add(client, "one")
    pilot.start(*pilot.lease())
    client.kill_jobs(ALL)
    clock.now += 61
    assert client.delete_jobs(ALL) == 1
