"""What the plan is told: the work that waits, and what allocations will still do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from balsam.model.batch_job import WAITING_STATES, BatchJob, BatchState
from balsam.model.demand import Waiting
from balsam.model.run_time import RunTime
from balsam.model.service import QueueState
from balsam.model.states import State
from balsam.model.wire import LauncherInfo, LauncherKind
from balsam.service.demand import (
    SOON_SECONDS,
    allocations_of,
    minutes_of,
    started_by_hand,
    works_of,
)
from balsam.service.estimate import Work
from balsam.service.plan import Allocation, Site, plan
from tests.unit.service.plan_worlds import node, work

NOW = 1_000_000.0
HOUR = minutes_of([], 10.0, 60.0)


def waiting(count: int = 1, **fields: Any) -> Waiting:
    known = {"state": State.PREPROCESSED, "owner": "me", "application": "app", "count": count}
    return msgspec.convert(known | fields, Waiting)


# how long jobs take ---------------------------------------------------------------------


def learned(mean: float, count: int = 100, deviation: float = 0.0) -> RunTime:
    return RunTime(application="app", ranks=1, count=count, mean_seconds=mean, deviation=deviation)


def test_what_a_job_says_of_its_time_counts() -> None:
    minutes = minutes_of([learned(600)], 10.0, 5.0)
    assert minutes(waiting(wall_time_minutes=7)) == 7.0
    assert minutes(waiting(wall_time_minutes=7, was_timed_out=True)) == 7.0


def test_what_runs_took_counts_before_what_is_assumed() -> None:
    assert minutes_of([learned(600)], 3.0, 60.0)(waiting()) == pytest.approx(11.0)
    assert minutes_of([learned(600, count=1)], 3.0, 60.0)(waiting()) == pytest.approx(10.0)
    assert minutes_of([learned(600)], 3.0, 60.0)(waiting(application="other")) == 3.0
    assert minutes_of([learned(600)], 3.0, 60.0)(waiting(ranks_per_node=4)) == 3.0


def test_a_time_that_nobody_knows_is_no_longer_than_there_is() -> None:
    """Launchers start such a job whatever time they have left."""
    assert minutes_of([], 10.0, 4.0)(waiting()) == 4.0


def test_where_the_longest_runs_do_not_fit_launchers_go_by_the_mean() -> None:
    minutes = minutes_of([learned(600, deviation=300)], 10.0, 20.0)
    assert minutes(waiting()) == pytest.approx(10.0)
    assert minutes_of([learned(600, deviation=300)], 10.0, 30.0)(waiting()) == 25.0


def test_a_mean_that_does_not_fit_stays_but_for_rests_of_runs() -> None:
    minutes = minutes_of([learned(1200)], 10.0, 15.0)
    assert minutes(waiting()) == pytest.approx(20.0)
    assert minutes(waiting(was_timed_out=True)) == 15.0


def test_no_time_is_nothing() -> None:
    assert minutes_of([learned(0.0)], 10.0, 15.0)(waiting()) > 0
    assert minutes_of([], 10.0, -1.0)(waiting()) == 10.0


# work -----------------------------------------------------------------------------------


def works(*some: Waiting) -> list[Work]:
    return works_of(some, HOUR, "me", NOW)


def test_free_jobs_are_work_and_those_of_launchers_and_others_are_not() -> None:
    assert works(waiting(5, example=9, num_nodes=2)) == [
        Work(request=work(num_nodes=2).request, minutes=10.0, count=5, example=9)
    ]
    assert works(waiting(launcher_id=3), waiting(owner="you")) == []


def test_what_waits_for_parents_or_a_moment_comes_soon() -> None:
    (child,) = works(waiting(state=State.AWAITING_PARENTS))
    (retry,) = works(waiting(is_delayed=True, retry_at=NOW + SOON_SECONDS))
    assert child.is_soon
    assert retry.is_soon
    assert works(waiting(is_delayed=True, retry_at=NOW + SOON_SECONDS + 1)) == []


# allocations ----------------------------------------------------------------------------


def test_files_that_the_service_moves_need_no_nodes() -> None:
    to_fetch = waiting(3, state=State.READY, to_stage=True)
    in_hand = waiting(2, state=State.READY, to_stage=True, launcher_id=9)
    elsewhere = waiting(5, state=State.READY, to_stage=True, launcher_id=4)
    results = waiting(7, state=State.POSTPROCESSED, to_stage=True)
    some = [to_fetch, in_hand, elsewhere, results]
    moved = works_of(some, HOUR, "me", NOW, {9})
    assert [(work.count, work.is_soon) for work in moved] == [(3, True), (2, True)]
    by_launchers = works_of(some, HOUR, "me", NOW)
    assert [(work.count, work.is_soon) for work in by_launchers] == [(3, False), (7, False)]


def batch(**fields: Any) -> BatchJob:
    known = {"id": 7, "queue": "q", "num_nodes": 2, "wall_time_minutes": 62.0, "service_id": 1}
    return msgspec.convert(known | {"state": BatchState.QUEUED} | fields, BatchJob)


def pilot(**fields: Any) -> LauncherInfo:
    known = {"id": 3, "host": "h", "pid": 1, "nodes": 2, "cores": 32, "batch_job_id": 7}
    known["expires_at"] = NOW + 60
    return msgspec.convert(known | fields, LauncherInfo)


def allocations(
    *batches: BatchJob,
    launcher: LauncherInfo | None = None,
    held: list[Waiting] | None = None,
) -> list[Allocation]:
    pilots: dict[int | None, LauncherInfo] = {7: launcher} if launcher else {}
    nodes = {"q": node(cores=4)}
    return allocations_of(batches, pilots, held or [], HOUR, nodes, "me", NOW)


@pytest.mark.parametrize("state", sorted(WAITING_STATES))
def test_what_waits_has_all_its_time(state: BatchState) -> None:
    (found,) = allocations(batch(state=state))
    assert (found.minutes, found.is_waiting, found.is_ours) == (60.0, True, True)


def test_of_what_runs_the_rest_is_left() -> None:
    (found,) = allocations(batch(state=BatchState.RUNNING, started_at=NOW - 600))
    assert (found.minutes, found.is_waiting, found.used) == (50.0, False, 0.0)
    (late,) = allocations(batch(state=BatchState.RUNNING, started_at=NOW - 9000))
    assert late.minutes == 0.0


def test_a_launcher_knows_best_when_its_time_ends() -> None:
    running = batch(state=BatchState.RUNNING, started_at=NOW - 600)
    (found,) = allocations(running, launcher=pilot(ends_at=NOW + 120))
    assert found.minutes == 2.0


@pytest.mark.parametrize("gone", [{"ended_at": NOW - 1}, {"expires_at": NOW - 1}])
def test_nodes_whose_launcher_is_gone_are_no_supply(gone: dict[str, Any]) -> None:
    running = batch(state=BatchState.RUNNING, started_at=NOW - 600)
    (found,) = allocations(running, launcher=pilot(ends_at=NOW + 3000, **gone))
    assert found.minutes == 0.0


def test_nodes_that_are_being_given_back_are_no_supply() -> None:
    (found,) = allocations(batch(state=BatchState.ENDING, started_at=NOW - 600))
    assert found.minutes == 0.0


def test_what_was_requeued_has_all_its_time_again() -> None:
    before = pilot(ends_at=NOW + 60, expires_at=NOW - 300)
    (waits,) = allocations(batch(), launcher=before)
    assert (waits.minutes, waits.is_waiting) == (60.0, True)
    begun = batch(state=BatchState.RUNNING, started_at=NOW - 60)
    (runs,) = allocations(begun, launcher=before)
    assert runs.minutes == 59.0


def test_what_is_to_be_cancelled_is_no_supply_but_in_its_queue() -> None:
    (found,) = allocations(batch(cancel_reason="no need"))
    assert (found.minutes, found.is_ours, found.queue) == (0.0, False, "q")


def test_what_runs_other_users_jobs_is_no_supply_but_in_its_queue() -> None:
    (waits,) = allocations(batch(owner="you"))
    assert (waits.minutes, waits.is_ours, waits.queue) == (0.0, False, "q")
    running = batch(owner="you", state=BatchState.RUNNING, started_at=NOW - 600)
    (runs,) = allocations(running, launcher=pilot(jobs_of="you"))
    assert runs.minutes == 0.0
    (any_,) = allocations(running, launcher=pilot(jobs_of=""))
    assert (any_.minutes, any_.is_ours) == (50.0, False)


def test_what_a_person_asked_for_is_not_ours() -> None:
    (found,) = allocations(batch(service_id=None))
    assert not found.is_ours


def test_nodes_of_a_queue_that_is_not_used_are_as_its_launcher_says() -> None:
    (found,) = allocations(batch(queue="other"), launcher=pilot(gpus=4, memory_mib=99))
    assert (found.node.cores, len(found.node.gpus), found.node.memory_mib) == (16, 2, 99)


def test_jobs_that_a_launcher_holds_and_those_that_run_take_its_time() -> None:
    held = [
        # Of 10 minutes, 4 on a node, half way.
        waiting(4, launcher_id=3, state=State.RUNNING, since=NOW - 300),
        waiting(8, launcher_id=3),
        waiting(8, launcher_id=9),
    ]
    running = batch(state=BatchState.RUNNING, started_at=NOW - 600)
    (found,) = allocations(running, launcher=pilot(), held=held)
    assert found.used == pytest.approx(5 + 20)


def test_jobs_that_run_for_longer_than_they_say_take_nothing_more() -> None:
    held = [waiting(4, launcher_id=3, state=State.RUNNING, since=NOW - 9000)]
    running = batch(state=BatchState.RUNNING, started_at=NOW - 600)
    (found,) = allocations(running, launcher=pilot(), held=held)
    assert found.used == 0.0


def test_a_launcher_takes_what_its_filter_lets_through() -> None:
    some = work()
    parallel = work(num_nodes=2)
    (serial,) = allocations(batch(job_mode="serial"))
    assert serial.takes(some)
    assert not serial.takes(parallel)
    (tagged,) = allocations(batch(tags={"a": "b"}))
    assert not tagged.takes(some)
    (filtered,) = allocations(batch(wf_filter="abc"))
    assert not filtered.takes(some)
    assert filtered.takes(msgspec.structs.replace(some, workflow="xabcx"))


# launchers that no batch job started ------------------------------------------------------


def by_hand(*launchers: LauncherInfo, waits: tuple[Waiting, ...] = ()) -> list[Allocation]:
    return started_by_hand(launchers, waits, HOUR, "me", NOW)


def launcher(**fields: Any) -> LauncherInfo:
    known = {"id": 3, "host": "h", "pid": 1, "cores": 8, "expires_at": NOW + 60}
    return LauncherInfo(**(known | fields))  # type: ignore[arg-type]


def test_a_launcher_started_by_hand_is_supply_for_the_time_it_has() -> None:
    (found,) = by_hand(launcher(nodes=2, cores=16, memory_mib=500, ends_at=NOW + 1800))
    assert (found.num_nodes, found.minutes, found.node.cores) == (2, 30.0, 8)
    assert (found.queue, found.is_waiting, found.is_ours) == (None, False, False)


def test_what_it_runs_is_taken_off() -> None:
    mine = waiting(4, launcher_id=3, state=State.RUNNING, since=NOW - 300.0)
    (found,) = by_hand(launcher(), waits=(mine,))
    assert found.used == pytest.approx(4 * 5 / 8)


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_job_id": 7},
        {"ended_at": NOW - 1},
        {"expires_at": NOW - 1},
        {"jobs_of": "somebody"},
        {"kind": LauncherKind.SERVICE, "nodes": 0, "cores": 0},
    ],
)
def test_these_are_no_supply_of_their_own(fields: dict[str, Any]) -> None:
    assert by_hand(launcher(**fields)) == []


def test_its_filters_hold() -> None:
    (all_,) = by_hand(launcher())
    (some,) = by_hand(launcher(workflow_filter="other"))
    (serial,) = by_hand(launcher(job_mode="serial"))
    one, wide = work(), work(ranks_per_node=2)
    assert [each.takes(one) for each in (all_, some, serial)] == [True, False, True]
    assert [each.takes(wide) for each in (all_, some, serial)] == [True, False, False]


def test_nothing_is_asked_for_what_it_will_do() -> None:
    queue = QueueState(name="")
    site = Site(queues=[queue], nodes={"": node()}, allocations=by_hand(launcher()))
    assert plan([work(80)], site).submissions == []
    site = Site(queues=[queue], nodes={"": node()}, allocations=by_hand(launcher(ends_at=NOW)))
    assert plan([work(80)], site).submissions != []
