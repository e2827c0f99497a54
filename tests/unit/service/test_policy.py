"""Which queues may be used, and when one that fails is left alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.config import NodesSettings, QueuePolicy, SchedulerSettings, ServiceSettings, Settings
from balsam.model.batch_job import BatchJob, BatchState
from balsam.model.service import QueueState
from balsam.model.wire import LauncherInfo
from balsam.schedulers.scheduler import Queue
from balsam.service.policy import (
    LONGEST_PAUSE_SECONDS,
    PAUSE_SECONDS,
    Failures,
    failures,
    node_of,
    queue_states,
)
from tests.unit.service.plan_worlds import node

S = BatchState
NOW = 1_000_000.0


def ended(number: int, state: BatchState, *, queue: str = "q", at: float = NOW) -> BatchJob:
    return BatchJob(id=number, queue=queue, state=state, ended_at=at, message=f"message {number}")


# failures -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.SUBMIT_FAILED, S.FAILED, S.LOST])
def test_what_ended_badly_is_a_failure_whether_a_launcher_was_there_or_not(
    state: BatchState,
) -> None:
    for launched in ({1}, set[int]()):
        found = failures([ended(1, state)], launched, 0)
        assert found == {"q": Failures(1, NOW, "batch job 1: message 1")}


@pytest.mark.parametrize("state", [S.FINISHED, S.TIMEOUT])
def test_what_ended_without_a_launcher_is_a_failure(state: BatchState) -> None:
    assert failures([ended(1, state)], {1}, 0) == {}
    assert failures([ended(1, state)], set(), 0)["q"].count == 1


@pytest.mark.parametrize("state", [S.CANCELLED, S.QUEUED, S.RUNNING, S.PENDING_SUBMISSION])
def test_what_says_nothing_is_passed_over(state: BatchState) -> None:
    said = [ended(3, S.FAILED), ended(2, state), ended(1, S.FAILED)]
    assert failures(said, set(), 0)["q"].count == 2


def test_failures_are_counted_back_to_the_last_success_of_their_queue() -> None:
    newest_first = [
        ended(6, S.FAILED),
        ended(5, S.FAILED, queue="other"),
        ended(4, S.LOST),
        ended(3, S.FINISHED),
        ended(2, S.FAILED),
        ended(1, S.FAILED, queue="other"),
    ]
    found = failures(newest_first, {3}, 0)
    assert {name: each.count for name, each in found.items()} == {"q": 2, "other": 2}
    assert found["q"].message == "batch job 6: message 6"


def test_what_was_asked_for_before_the_service_started_is_forgotten() -> None:
    """Its end, by the batch system's clock and in whole seconds, may seem to be before."""
    after, before = ended(2, S.FAILED, at=NOW - 0.5), ended(1, S.FAILED, at=NOW - 0.5)
    after.created_at, before.created_at = NOW, NOW - 1
    assert failures([after, before], set(), NOW)["q"].count == 1
    assert failures([before], set(), NOW) == {}


@given(st.integers(1, 10), st.integers(0, 60))
def test_pauses_grow_to_a_most(limit: int, more: int) -> None:
    assert Failures(limit - 1, NOW, "").paused_until(limit) == 0.0
    pause = Failures(limit + more, NOW, "").paused_until(limit) - NOW
    assert PAUSE_SECONDS <= pause <= LONGEST_PAUSE_SECONDS
    assert pause <= Failures(limit + more + 1, NOW, "").paused_until(limit) - NOW
    if more == 0:
        assert pause == PAUSE_SECONDS


# queues ---------------------------------------------------------------------------------


def told(**fields: Any) -> Queue:
    return msgspec.convert({"name": "q"} | fields, Queue)


def state(
    queue: Queue, failed: Failures | None = None, now: float = NOW, **policy: Any
) -> QueueState:
    settings = Settings(queues={"q": QueuePolicy(**policy)})
    (found,) = queue_states([queue], settings, {"q": failed} if failed else {}, now)
    return found


def test_of_each_limit_the_narrower_counts() -> None:
    queue = told(
        min_nodes=2, max_nodes=10, min_minutes=5.0, max_minutes=60.0, max_queued=3, nodes=8
    )
    wide = state(queue, max_queued=9, max_nodes=100, max_minutes=600.0)
    assert (wide.min_nodes, wide.max_nodes, wide.max_queued) == (2, 10, 3)
    assert (wide.min_minutes, wide.max_minutes) == (5.0, 60.0)
    narrow = state(
        queue, max_queued=1, min_nodes=3, max_nodes=4, min_minutes=10.0, max_minutes=30.0
    )
    assert (narrow.min_nodes, narrow.max_nodes, narrow.max_queued) == (3, 4, 1)
    assert (narrow.min_minutes, narrow.max_minutes) == (10.0, 30.0)


def test_where_nobody_has_a_limit_there_is_none() -> None:
    found = state(told())
    assert (found.min_nodes, found.max_nodes, found.max_minutes) == (1, None, None)
    assert found.max_queued == QueuePolicy().max_queued


def test_a_closed_queue_says_why() -> None:
    assert state(told(is_open=False)).comment == "it is closed"
    assert state(told(is_open=False, comment="drained")).comment == "drained"


def test_a_queue_that_there_is_not_is_told_with_those_that_there_are() -> None:
    settings = Settings(queues={"p": QueuePolicy()})
    (found,) = queue_states([told()], settings, {}, NOW)
    assert not found.is_open
    assert found.comment == "the batch system has no such queue; it has q"


def test_a_queue_is_used_though_the_batch_system_tells_of_none() -> None:
    (found,) = queue_states([], Settings(queues={"p": QueuePolicy()}), {}, NOW)
    assert (found.name, found.is_open) == ("p", True)


def test_queues_that_are_not_to_be_used_are_left_out() -> None:
    settings = Settings(queues={"q": QueuePolicy(use=False), "p": QueuePolicy()})
    found = queue_states([told(), told(name="p")], settings, {}, NOW)
    assert [each.name for each in found] == ["p"]
    assert queue_states([told()], Settings(queues={"q": QueuePolicy(use=False)}), {}, NOW) == []


def test_without_a_policy_the_default_queue_is_used() -> None:
    queues = [told(), told(name="p", is_default=True)]

    def names(settings: Settings, some: list[Queue]) -> list[str]:
        return [each.name for each in queue_states(some, settings, {}, NOW)]

    assert names(Settings(), queues) == ["p"]
    assert names(Settings(scheduler=SchedulerSettings(queue="q")), queues) == ["q"]
    assert names(Settings(), [told()]) == ["q"]
    assert names(Settings(), [told(), told(name="p")]) == [""]


def test_a_queue_that_failed_too_often_is_paused_and_then_tried_with_one() -> None:
    failed = Failures(3, NOW, "batch job 9: no such account")
    paused = state(told(), failed, NOW + PAUSE_SECONDS - 1)
    assert not paused.is_open
    assert "3 failures in a row" in paused.comment
    assert "no such account" in paused.comment
    trial = state(told(), failed, NOW + PAUSE_SECONDS)
    assert (trial.is_open, trial.max_queued) == (True, 1)
    assert state(told(), Failures(2, NOW, ""), NOW).is_open


def test_a_closed_queue_that_failed_stays_closed_after_its_pause() -> None:
    failed = Failures(3, NOW, "")
    assert not state(told(is_open=False), failed, NOW + PAUSE_SECONDS).is_open


def test_a_trial_keeps_the_limit_of_the_queue() -> None:
    """A queue that takes no requests of ours is not asked for one."""
    failed = Failures(ServiceSettings().failure_limit, NOW, "")
    found = state(told(max_queued=1), failed, NOW + LONGEST_PAUSE_SECONDS)
    assert found.max_queued == 1


# nodes ----------------------------------------------------------------------------------


def test_what_nodes_are_like_is_told_by_who_knows_best() -> None:
    here = node(cores=2, gpus=0, memory_mib=100)
    queue = QueueState(name="q", cores_per_node=16, gpus_per_node=2, memory_mib=3000)
    seen = [LauncherInfo(host="h", pid=1, nodes=2, cores=64, gpus=8, memory_mib=5000)]
    own = Settings(nodes=NodesSettings(cores=5, gpus=1, memory_mib=50))

    def like(queue: QueueState, settings: Settings, some: list[LauncherInfo]) -> tuple[int, ...]:
        found = node_of(queue, settings, some, here)
        return found.cores, len(found.gpus), found.memory_mib

    assert like(queue, own, seen) == (5, 1, 50)
    assert like(queue, Settings(), seen) == (16, 2, 3000)
    assert like(QueueState(name="q"), Settings(), seen) == (32, 4, 5000)
    assert like(QueueState(name="q"), Settings(), []) == (2, 0, 100)
