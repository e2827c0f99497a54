"""The thread that learns of the ends of jobs: one for all futures of a process and a site."""

from __future__ import annotations

import atexit
import logging
import os
import select
import threading
import time
from pathlib import Path

from balsam.client.interface import Client, Watch
from balsam.client.site import Site
from balsam.errors import BalsamError, JobFailed
from balsam.functions.endings import Ending, endings
from balsam.functions.futures import Future
from balsam.functions.pilots import PilotCheck
from balsam.model.query import Filter, Query
from balsam.model.states import END_STATES, State
from balsam.model.wire import Topic

log = logging.getLogger("balsam")
#: Seconds between two looks at all jobs that are waited for.
LOOK_SECONDS = 3.0
#: A look may take no more than this part of the time.
LOOK_SHARE = 0.1
#: Jobs of one query.
SLICE = 5000
#: Seconds before a database that did not answer is asked again.
PAUSE = 2.0
#: Seconds without anything to follow after which connections are given back.
IDLE_SECONDS = 5.0
_ENDED = [str(state) for state in END_STATES]

_watchers: dict[Path, Watcher] = {}
_making = threading.Lock()


def watcher_of(site: Site) -> Watcher:
    """Return the watcher of *site* in this process."""
    with _making:
        if site.path not in _watchers:
            if not _watchers:
                os.register_at_fork(after_in_child=_after_fork)
                atexit.register(_stop_all)
            _watchers[site.path] = Watcher(site)
        found = _watchers[site.path]
        found.site = site
        return found


def _after_fork() -> None:
    global _making
    _making = threading.Lock()
    for watcher in _watchers.values():
        watcher.after_fork()


def _stop_all() -> None:
    for watcher in list(_watchers.values()):
        watcher.stop()


class Watcher:
    """Follows jobs to their ends.

    Events are the fast way: after a bell, those behind the last one that was seen. A look at all
    jobs that are waited for, every few seconds, is the sure way: on PostgreSQL events can become
    visible in another order than that of their ids.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.pilots = PilotCheck()
        self.stored = threading.Condition()  #: notified when jobs were stored, or were not
        self._lock = threading.Lock()
        #: By job: there are several futures of one that is attached to while it is waited for.
        self._pending: dict[int, tuple[Future, ...]] = {}
        self._thread: threading.Thread | None = None
        self._is_resting = False
        self._is_stopping = False
        self._has_strangers = False  #: jobs that may have ended before they were followed
        self._bell, self._ringer = os.pipe()
        for end in (self._bell, self._ringer):
            os.set_blocking(end, False)

    # what others call ---------------------------------------------------------------------

    def follow(self, futures: list[Future]) -> None:
        """Tell *futures* when their jobs end."""
        with self._lock:
            for future in futures:
                self._pending[future.number] = (*self._pending.get(future.number, ()), future)
            self._has_strangers |= any(future.is_stored for future in futures)
            rings = self._is_resting or self._has_strangers
        self.wake()
        if rings:
            self._ring()

    def forget(self, future: Future) -> None:
        """Follow *future* no more."""
        with self._lock:
            others = tuple(f for f in self._pending.pop(future.number, ()) if f is not future)
            if others:
                self._pending[future.number] = others

    def wake(self) -> None:
        """See to it that there is a thread: after a fork there is none."""
        if self._thread is None and self._pending:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="balsam-futures", daemon=True
                    )
                    self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """End the thread, within *seconds* if it can; futures that are not done stay so."""
        _watchers.pop(self.site.path, None)
        self._is_stopping = True
        self._ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def after_fork(self) -> None:
        """Go on in a child: with locks, a pipe and a thread of its own."""
        self._lock = threading.Lock()
        self.stored = threading.Condition()
        self._thread = None
        self._is_resting = self._is_stopping = False
        self._has_strangers = True
        os.close(self._bell)
        os.close(self._ringer)
        self._bell, self._ringer = os.pipe()
        for end in (self._bell, self._ringer):
            os.set_blocking(end, False)
        for futures in self._pending.values():
            for future in futures:
                future.renew_lock()

    def _ring(self) -> None:
        try:
            os.write(self._ringer, b"!")
        except BlockingIOError:
            pass  # it is awake already

    # the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                try:
                    self._follow_while_there_is_any()
                    self._rest(None)
                except BalsamError as error:
                    if not error.retryable:
                        raise
                    log.warning("results are waited for, but %s", error)
                    self._sleep(PAUSE)
        except BaseException as error:  # nobody may wait for ever for a thread that is dead
            problem = error if isinstance(error, BalsamError) else JobFailed(f"{error!r}")
            with self._lock:
                self._thread = None
                left, self._pending = self._pending, {}
            for futures in left.values():
                for future in futures:
                    future.end(problem)
            if not isinstance(error, BalsamError):
                raise

    def _follow_while_there_is_any(self) -> None:
        """Follow jobs until there has been none for a while."""
        client = self.site.client
        watch = client.watch(Topic.ENDS)
        try:
            last: int | None = None
            next_look = 0.0
            while not self._is_stopping:
                if self._rest(IDLE_SECONDS):
                    if not self._pending:
                        return
                    last = None
                if last is None:
                    last, next_look = _newest_event(client), 0.0
                elif self._wait(watch, next_look - time.monotonic()):
                    last = self._read_events(client, last)
                if self._has_strangers or time.monotonic() >= next_look:
                    self._has_strangers = False
                    next_look = self._look(client)
        finally:
            watch.close()

    def _rest(self, seconds: float | None) -> bool:
        """Wait while there is nothing to follow, for *seconds*; tell whether that was so."""
        with self._lock:
            self._is_resting = not self._pending and not self._is_stopping
        if not self._is_resting:
            return False
        self._sleep(seconds)
        return True

    def _sleep(self, seconds: float | None) -> None:
        """Wait until somebody rings, or for *seconds*."""
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        poller.poll(None if seconds is None else 1000 * seconds)
        self._clear()

    def _clear(self) -> None:
        try:
            while os.read(self._bell, 4096):
                pass
        except BlockingIOError:
            pass

    def _wait(self, watch: Watch, seconds: float) -> bool:
        """Wait until jobs have ended, or for *seconds*; tell whether some may have ended."""
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        descriptor = watch.fileno()
        if descriptor >= 0:
            poller.register(descriptor, select.POLLIN)
        heard = dict(poller.poll(1000 * max(0.0, seconds)))
        self._clear()
        if descriptor in heard:
            watch.clear()
        return descriptor in heard

    def _read_events(self, client: Client, last: int) -> int:
        """End the jobs whose ends are among the events after *last*; return the last one now."""
        while True:
            with self._lock:
                if not self._pending:
                    return last
                first, final = min(self._pending), max(self._pending)
            filters = (
                Filter("id", (), "gt", last),
                Filter("to_state", (), "in", _ENDED),
                Filter("job", (), "gte", first),
                Filter("job", (), "lte", final),
            )
            events = client.events(Query(filters=filters, limit=SLICE))
            self._end(client, {event.job: State(event.to_state) for event in events})
            last = max((event.id for event in events), default=last)
            if len(events) < SLICE:
                return last

    def _look(self, client: Client) -> float:
        """Look at every job that is waited for; return when to look again."""
        began = time.monotonic()
        with self._lock:
            pending = dict(self._pending)
        # Only of those that were stored before the look, absence means that they were removed.
        stored = {n for n, futures in pending.items() if any(f.is_stored for f in futures)}
        numbers = sorted(pending)
        for start in range(0, len(numbers), SLICE):
            part = numbers[start : start + SLICE]
            query = Query(filters=(Filter("id", (), "in", part),))
            states = {job.id or 0: job.state for job in client.jobs(query, ["state"])}
            self._end(client, {n: s for n, s in states.items() if s in END_STATES})
            for number in stored.intersection(part).difference(states):
                self._tell(number, JobFailed(f"job {number} was removed from the database"))
        self.pilots.look(client, pending)
        ended = time.monotonic()
        return ended + max(LOOK_SECONDS, (ended - began) / LOOK_SHARE)

    def _end(self, client: Client, ended: dict[int, State]) -> None:
        with self._lock:
            waited_for = {
                number: state for number, state in ended.items() if number in self._pending
            }
        for number, ending in endings(client, waited_for).items():
            self._tell(number, ending)

    def _tell(self, number: int, ending: Ending | BalsamError) -> None:
        with self._lock:
            futures = self._pending.pop(number, ())
        for future in futures:
            future.end(ending)


def _newest_event(client: Client) -> int:
    events = client.events(Query(order=("-id",), limit=1))
    return events[0].id if events else 0
