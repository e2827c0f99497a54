"""Futures of 0.x: a job and what is to be called when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, Literal, NamedTuple, Protocol

from balsam.client.interface import Client
from balsam.compat.jobs import BalsamJob
from balsam.errors import BalsamError, InvalidInput
from balsam.model.query import Query
from balsam.model.states import State
from balsam.model.wire import Topic

When = Literal["ANY_COMPLETED", "ALL_COMPLETED"]

ACTIVE, DONE, FAILED, CANCELLED = "active", "done", "failed", "cancelled"
_ENDS = {State.JOB_FINISHED: DONE, State.FAILED: FAILED, State.USER_KILLED: CANCELLED}
#: The database is looked at again after so many seconds, whatever was heard.
_LOOK = 10.0


class TaskFailed(BalsamError):
    """The job of a future failed, and nobody said what is to happen then."""


class Callback(Protocol):
    """Called with the job, and with what else the future was given."""

    def __call__(self, job: BalsamJob, /, *args: Any, **kwargs: Any) -> Any: ...


class FutureTask:
    """A job, and what is to be done with it when it has ended.

    Any other attribute may be set.

    Parameters
    ----------
    job
        A job that is saved.
    done_callback, fail_callback
        Called by `result`, once, as ``callback(job, *args, **kwargs)``, with the job as it is
        then; what they return is the result.
    """

    def __init__(
        self,
        job: BalsamJob,
        done_callback: Callback,
        fail_callback: Callback | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if not isinstance(job, BalsamJob) or not callable(done_callback):
            raise InvalidInput("a FutureTask takes a BalsamJob and a function")
        self._job = job
        self._on_done = done_callback
        self._on_fail = fail_callback
        self._args = args
        self._kwargs = kwargs
        self._state = ACTIVE
        self._called = False
        self._result: Any = None

    @property
    def cute_id(self) -> str:
        """Name and first digits of the job's UUID."""
        return self._job.cute_id

    @property
    def done(self) -> bool:
        """Whether the job finished."""
        return self._now() == DONE

    @property
    def failed(self) -> bool:
        """Whether the job failed."""
        return self._now() == FAILED

    @property
    def cancelled(self) -> bool:
        """Whether the job was killed, or removed."""
        return self._now() == CANCELLED

    @property
    def active(self) -> bool:
        """Whether the job has not ended."""
        return self._now() == ACTIVE

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the job's end, at most *timeout* seconds; return what the callback does.

        Of a job that was killed the result is None.

        Raises
        ------
        TimeoutError
            The time is over.
        TaskFailed
            The job failed, and there is no `fail_callback`.
        """
        wait([self], timeout, "ALL_COMPLETED")
        if self._state == CANCELLED:
            return None
        callback = self._on_done if self._state == DONE else self._on_fail
        if callback is None:
            raise TaskFailed(f"job {self.cute_id} failed, and its future has no fail_callback")
        if not self._called:
            self._job.refresh_from_db()
            self._result = callback(self._job, *self._args, **self._kwargs)
            self._called = True
        return self._result

    def cancel(self) -> None:
        """Kill the job, if it has not ended."""
        self._job.update_state(State.USER_KILLED)
        self._now()

    def _now(self) -> str:
        if self._state == ACTIVE:
            _look([self])
        return self._state

    def __repr__(self) -> str:
        return f"<FutureTask {self.cute_id}: {self._state}>"


class WaitResult(NamedTuple):
    """Futures by what became of them."""

    active: list[FutureTask]
    done: list[FutureTask]
    failed: list[FutureTask]
    cancelled: list[FutureTask]


def wait(
    futures: Iterable[FutureTask],
    timeout: float | None = None,
    return_when: When = "ANY_COMPLETED",
    poll_period: float = 1.0,
) -> WaitResult:
    """Wait until one of *futures*, or all, have ended; return them all by what became of them.

    Without futures it returns at once. One query asks for all of them, when jobs have ended.

    Parameters
    ----------
    timeout
        Seconds; None: for ever.
    poll_period
        Not needed: ends are told.

    Raises
    ------
    TimeoutError
        The time is over.
    """
    if return_when not in ("ANY_COMPLETED", "ALL_COMPLETED"):
        raise InvalidInput(f"return_when is {return_when!r}; use ANY_COMPLETED or ALL_COMPLETED")
    given = list(futures)
    enough: Callable[[WaitResult], bool] = (
        (lambda found: len(found.active) < len(given))
        if return_when == "ANY_COMPLETED"
        else (lambda found: not found.active)
    )
    found = _sorted(given)
    if not given or enough(found):
        return found
    deadline = None if timeout is None else time.monotonic() + timeout
    client: Client = given[0]._job._real.site.client
    with closing(client.watch(Topic.ENDS)) as watch:
        while True:
            watch.clear()
            found = _sorted(given)
            if enough(found):
                return found
            left = _LOOK if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"after {timeout} s {len(found.active)} of {len(given)} jobs have not ended"
                )
            watch.wait(min(left, _LOOK))


def _sorted(futures: list[FutureTask]) -> WaitResult:
    _look([future for future in futures if future._state == ACTIVE])
    states = [[f for f in futures if f._state == state] for state in WaitResult._fields]
    return WaitResult(*states)


def _look(futures: list[FutureTask]) -> None:
    """Note which jobs have ended: one query for all."""
    if not futures:
        return
    client: Client = futures[0]._job._real.site.client
    ids = [future._job.number for future in futures]
    found = {job.id: job.state for job in client.jobs(Query().where(id__in=ids), ["id", "state"])}
    for future in futures:
        state = found.get(future._job.number)
        future._state = CANCELLED if state is None else _ENDS.get(state, ACTIVE)
