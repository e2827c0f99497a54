"""Futures of jobs."""

from __future__ import annotations

import os
from concurrent import futures
from typing import TYPE_CHECKING, Any

from balsam.client.site import Site
from balsam.errors import BalsamError
from balsam.functions.endings import Ending, failure_of, value_of
from balsam.functions.inside import waiting
from balsam.model.query import Query
from balsam.model.states import State

if TYPE_CHECKING:
    from balsam.api import Job
    from balsam.functions.watcher import Watcher


class Future(futures.Future[Any]):
    """The result of a job that there may be one day.

    It is a `concurrent.futures.Future`: `concurrent.futures.wait`, `as_completed` and
    `asyncio.wrap_future` take it. What differs: the job goes on when the program ends
    (`attach` finds it again), `cancel` also ends a call that runs, and a pickled result is loaded
    when `result` asks for it.

    Parameters
    ----------
    number
        The job's integer id.
    stored
        Whether the job is in the database already.
    trusted
        Whether its pickles may be loaded: it is a job of this user.
    """

    def __init__(
        self,
        watcher: Watcher,
        number: int,
        name: str,
        *,
        stored: bool = False,
        trusted: bool = True,
    ) -> None:
        super().__init__()
        self.number = number  #: the job's id, from the start; `id` is there when the job is
        self.is_trusted = trusted
        self.watcher = watcher
        self._name = name
        self._is_stored = stored
        self._process = os.getpid()
        self._ended_as = ""
        self._decoded: tuple[Any, BaseException | None] | None = None

    # the job ------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """The job's integer id. Waits until the job is stored (milliseconds).

        Raises what kept it from being stored.
        """
        stored = self.watcher.stored
        with stored:
            stored.wait_for(lambda: self._is_stored or self.done() or self._process != os.getpid())
        if not self._is_stored and self.done() and not self.cancelled():
            error = self.exception()
            if isinstance(error, BalsamError):
                raise error
        return self.number

    @property
    def job_id(self) -> str:
        """The job's UUID, as in ``Job.job_id``. Waits as `id` does."""
        return self.site.client.identity.text(self.id)

    @property
    def job(self) -> Job:
        """The job, as it is in the database now."""
        from balsam.api import Job

        found = self.site.jobs.get(id=self.id)
        assert isinstance(found, Job)
        return found

    @property
    def site(self) -> Site:
        """Where the job is."""
        return self.watcher.site

    # concurrent.futures -------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> Any:
        """Return what the function returned; block for at most *timeout* seconds.

        Raises
        ------
        TimeoutError
            It has not ended by then.
        CancelledError
            The job was killed.
        JobFailed, DependencyFailed
            The job failed without the function having raised anything.
        UntrustedResult
            It is a pickle of another user's job.

        What the function raised is raised here, with the traceback it had there as its cause.
        """
        value, error = self._loaded(timeout)
        if error is None:
            return value
        try:
            raise error
        finally:
            self = None  # type: ignore[assignment]  # no cycle of traceback and frame
            error = None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what `result` would raise, or None."""
        return self._loaded(timeout)[1]

    def running(self) -> bool:
        """Tell whether the job runs now; asks the database."""
        if self.done() or not self._is_stored:
            return False
        jobs = self.site.client.jobs(Query().where(id=self.number), ["state"])
        return bool(jobs) and jobs[0].state is State.RUNNING

    def cancel(self) -> bool:
        """Kill the job, also when it runs; tell whether it is killed (else it had ended)."""
        if self.done():
            return self.cancelled()
        try:
            number = self.id
        except BalsamError:
            return False
        if number in self.site.client.kill_jobs(Query().where(id=number)):
            self.end_as_killed()
            return True
        return self.cancelled()

    def add_done_callback(self, fn: Any) -> None:
        """Call *fn* with this future when it is done (from another thread)."""
        self.watcher.wake()
        super().add_done_callback(fn)

    def _loaded(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        if not self.done():
            self.watcher.wake()
            with waiting():
                ended = super().result(timeout)
        else:
            ended = super().result(timeout)
        with self._condition:
            if self._decoded is None:
                self._decoded = self._decode(ended)
                self._result = None  # what was written is of no more use
            return self._decoded

    def _decode(self, ended: Ending | BalsamError) -> tuple[Any, BaseException | None]:
        if isinstance(ended, BalsamError):
            return None, ended
        client = self.site.client
        error = failure_of(client, self.number, ended, self.is_trusted)
        if error is not None:
            return None, error
        try:
            return value_of(client, self.number, ended, self.is_trusted), None
        except BalsamError as problem:
            return None, problem

    # told by those who submit and watch ---------------------------------------------------

    @property
    def is_stored(self) -> bool:
        """Whether the job is known to be in the database."""
        return self._is_stored

    def note_stored(self) -> None:
        """The job is in the database. Whoever calls this notifies `Watcher.stored`."""
        self._is_stored = True

    def end(self, ending: Ending | BalsamError) -> None:
        """The job has ended, or there will be no job."""
        if isinstance(ending, Ending) and ending.state is State.USER_KILLED:
            self.end_as_killed()
            return
        self._ended_as = str(ending.state if isinstance(ending, Ending) else "not known")
        try:
            self.set_result(ending)
        except futures.InvalidStateError:
            pass  # cancelled just now

    def end_as_killed(self) -> None:
        """The job was killed."""
        self.watcher.forget(self)
        if super().cancel():
            with self._condition:
                is_new = self._state == "CANCELLED"
                if is_new:
                    # Those in wait and as_completed are told by this only.
                    self.set_running_or_notify_cancel()

    def renew_lock(self) -> None:
        """After a fork, when another thread may have had it that is not there any more."""
        import threading

        self._condition = threading.Condition()

    def __repr__(self) -> str:
        if not self.done():
            told = "pending"
        elif self.cancelled():
            told = "killed"
        else:
            told = self._ended_as
        return f"<Future of job {self.number} {self._name!r}: {told}>"

    def __reduce__(self) -> Any:
        from balsam.functions.attaching import attach_one

        return attach_one, (str(self.site.path), self.id)
