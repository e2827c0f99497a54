"""What becomes of a batch job's record: by what the batch system says, its launcher, and time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.model.batch_job import ENDED_STATES, LIVE_STATES, BatchJob, BatchState
from balsam.model.wire import LauncherInfo
from balsam.schedulers.scheduler import Status
from balsam.service.watch import judged, told

S = BatchState
NOW, PATIENCE = 100_000.0, 600.0


def job(state: BatchState = S.QUEUED, **fields: Any) -> BatchJob:
    known = {"id": 7, "scheduler_id": "55", "num_nodes": 2, "seen_at": NOW - 5, "created_at": 1.0}
    return msgspec.convert(known | {"state": state, "queue": "q"} | fields, BatchJob)


def status(state: BatchState, **fields: Any) -> Status:
    return msgspec.convert({"scheduler_id": "55", "state": state, "word": "W"} | fields, Status)


def launcher(**fields: Any) -> LauncherInfo:
    known = {"host": "h", "pid": 1, "started_at": NOW - 100, "expires_at": NOW + 30}
    return msgspec.convert(known | fields, LauncherInfo)


ALIVE = launcher()
EXPIRED = launcher(expires_at=NOW - 1)
ENDED = launcher(ended_at=NOW - 10, expires_at=NOW + 20, message="no work left")
DIED = launcher(ended_at=NOW - 10, expires_at=NOW - 50, message="its lease ended")


def after(
    before: BatchJob, said: Status | None, pilot: LauncherInfo | None, now: float = NOW
) -> BatchJob:
    return msgspec.structs.replace(before, **judged(before, said, pilot, now, PATIENCE))


@pytest.mark.parametrize("state", sorted(set(S) - {S.UNKNOWN}))
def test_what_the_batch_system_says_counts(state: BatchState) -> None:
    found = after(job(), status(state, reason="because", nodes="n[1-2]", exit_code=3), None)
    assert (found.state, found.scheduler_state, found.message) == (state, "W", "because")
    assert (found.nodes, found.exit_code, found.seen_at) == ("n[1-2]", 3, NOW)
    assert (found.ended_at is not None) == (state in ENDED_STATES)


@pytest.mark.parametrize("state", [S.QUEUED, S.HELD, S.UNKNOWN, S.PENDING_SUBMISSION])
def test_a_launcher_that_lives_says_that_it_runs(state: BatchState) -> None:
    assert after(job(), status(state), ALIVE).state is S.RUNNING
    assert after(job(), None, ALIVE).state is S.RUNNING


@pytest.mark.parametrize("state", [S.RUNNING, S.ENDING, *sorted(ENDED_STATES)])
def test_a_launcher_does_not_change_what_is_as_far_or_farther(state: BatchState) -> None:
    assert after(job(S.RUNNING), status(state), ALIVE).state is state


@pytest.mark.parametrize("state", sorted(LIVE_STATES - {S.UNKNOWN}))
def test_an_unknown_word_is_kept_and_the_request_goes_on(state: BatchState) -> None:
    found = after(job(state), status(S.UNKNOWN, word="HIBERNATING"), None)
    assert (found.state, found.scheduler_state) == (state, "HIBERNATING")


@given(
    st.sampled_from(sorted(LIVE_STATES)),
    st.sampled_from([None, ALIVE, EXPIRED]),
    st.floats(0, PATIENCE),
)
def test_that_it_is_not_named_never_ends_a_request_at_once(
    state: BatchState, pilot: LauncherInfo | None, silent: float
) -> None:
    before = job(state, seen_at=NOW - silent)
    assert after(before, None, pilot).is_live


@pytest.mark.parametrize("pilot", [None, EXPIRED])
def test_what_nobody_has_heard_of_for_long_is_lost(pilot: LauncherInfo | None) -> None:
    found = after(job(S.RUNNING, seen_at=NOW - PATIENCE - 1), None, pilot)
    assert (found.state, found.ended_at) == (S.LOST, NOW)
    assert "10 minutes" in found.message


def test_what_its_launcher_keeps_alive_is_never_lost() -> None:
    before = job(S.RUNNING, seen_at=NOW - 100 * PATIENCE)
    found = after(before, None, ALIVE)
    assert (found.state, found.seen_at) == (S.RUNNING, NOW)


def test_of_what_is_forgotten_the_launcher_tells_the_end() -> None:
    found = after(job(S.RUNNING), None, ENDED)
    assert (found.state, found.message, found.ended_at) == (S.FINISHED, "no work left", NOW - 10)
    assert after(job(S.RUNNING), None, DIED).state is S.FAILED


@pytest.mark.parametrize("pilot", [EXPIRED, ENDED, DIED])
def test_what_is_requeued_waits_as_before_its_start(pilot: LauncherInfo) -> None:
    before = job(S.RUNNING, started_at=NOW - 200, nodes="n[1-2]")
    found = after(before, status(S.QUEUED, reason="BeginTime"), pilot)
    assert (found.state, found.started_at, found.nodes) == (S.QUEUED, None, "")
    # Its launcher of before tells nothing of how it ends.
    assert after(found, None, pilot).is_live


def test_what_was_to_be_cancelled_and_is_gone_is_cancelled() -> None:
    for pilot in (None, ENDED, DIED):
        found = after(job(cancel_reason="too late"), None, pilot)
        assert (found.state, found.message) == (S.CANCELLED, "too late")


def test_what_was_cancelled_says_why() -> None:
    found = after(job(cancel_reason="too late"), status(S.CANCELLED, reason="by 1000"), None)
    assert found.message == "too late"


def test_what_is_to_be_cancelled_and_lives_stays_as_it_is() -> None:
    assert after(job(S.RUNNING, cancel_reason="x"), status(S.RUNNING), ALIVE).state is S.RUNNING


def test_the_end_has_the_launchers_message_where_the_batch_system_has_none() -> None:
    assert after(job(S.RUNNING), status(S.FINISHED), ENDED).message == "no work left"
    assert after(job(S.RUNNING), status(S.FAILED, reason="OOM"), ENDED).message == "OOM"
    assert after(job(S.RUNNING), status(S.FINISHED), ENDED).started_at == NOW - 100


def test_the_queue_that_was_asked_for_stays() -> None:
    assert after(job(), status(S.QUEUED, queue="routed"), None).queue == "q"
    assert after(job(queue=""), status(S.QUEUED, queue="default"), None).queue == "default"


def test_what_is_known_is_not_overwritten_with_nothing() -> None:
    before = job(S.RUNNING, nodes="n1", started_at=NOW - 50, exit_code=None)
    found = after(before, status(S.FINISHED), None)
    assert (found.nodes, found.started_at) == ("n1", NOW - 50)


def test_nothing_new_is_not_written_down_each_time() -> None:
    before = after(job(), status(S.QUEUED, reason="Priority"), None)
    assert judged(before, status(S.QUEUED, reason="Priority"), None, NOW + 5, PATIENCE) == {}
    later = judged(before, status(S.QUEUED, reason="Priority"), None, NOW + 100, PATIENCE)
    assert later == {"seen_at": NOW + 100}


@given(
    st.sampled_from(sorted(LIVE_STATES - {S.UNKNOWN})),
    st.one_of(st.none(), st.builds(status, st.sampled_from(sorted(S)))),
    st.sampled_from([None, ALIVE, EXPIRED, ENDED, DIED]),
    st.sampled_from(["", "no need"]),
    st.sampled_from([0.0, 5.0, PATIENCE, PATIENCE + 1, 1e5]),
)
def test_whatever_is_said_the_record_stays_sound(
    state: BatchState,
    said: Status | None,
    pilot: LauncherInfo | None,
    reason: str,
    silent: float,
) -> None:
    found = after(job(state, cancel_reason=reason, seen_at=NOW - silent), said, pilot)
    assert found.state is not S.UNKNOWN
    assert (found.state in ENDED_STATES) == (found.ended_at is not None)
    if found.state is not state and found.state in ENDED_STATES:
        assert told(job(state), found)
    assert judged(found, said, pilot, NOW, PATIENCE).keys() <= {"seen_at"} or not found.is_live
