"""`balsam.Executor`: a `concurrent.futures.Executor` whose calls are durable jobs."""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from typing import TYPE_CHECKING, Any, Literal

from balsam import config
from balsam.client.interface import Client
from balsam.client.site import Site
from balsam.errors import InvalidInput
from balsam.functions import options, pilots
from balsam.functions.app import WORKFLOW, FunctionApp
from balsam.functions.attaching import attach, site_of
from balsam.functions.futures import Future
from balsam.functions.submission import submitter_of
from balsam.functions.waiting import wait as wait_for
from balsam.functions.watcher import watcher_of
from balsam.model.query import Filter, Query
from balsam.model.states import State

if TYPE_CHECKING:
    from balsam.api import Job, QuerySet

#: The tag that all jobs of one executor have.
TAG = "executor"
_executors: weakref.WeakSet[Executor] = weakref.WeakSet()


class Executor(futures.Executor):
    """Calls functions as jobs of a site.

    Parameters
    ----------
    site
        A site or its path; default: the one in use.
    workflow, tags
        Of its jobs; all have the tag ``executor`` too, whose value is `token`.
    launcher
        Whether to start a launcher for these jobs on this machine, which ends with the executor.
        'auto': when no launcher lives, and this machine is not part of a batch system.
    python_exe
        The interpreter that runs the functions, where Balsam need not be.
    initializer, initargs
        Called once in each process, before its first function.
    resources
        Further fields of its jobs: ``threads_per_rank=4``, ``gpus_per_rank=1``, …

    Raises
    ------
    UnknownField, InvalidInput
        There is no such field, or it cannot have that value.
    """

    def __init__(
        self,
        site: Site | str | os.PathLike[str] | None = None,
        *,
        workflow: str | None = None,
        tags: Mapping[str, str] | None = None,
        launcher: Literal["auto"] | bool = "auto",
        python_exe: str | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        **resources: Any,
    ) -> None:
        options.check_names(resources, options.JOB_FIELDS, "an executor")
        if launcher not in ("auto", True, False):
            raise InvalidInput(f"launcher cannot be {launcher!r}; give 'auto', True or False")
        self.site = site_of(site)
        self.token = secrets.token_hex(4)
        self._fields: dict[str, Any] = {"tags": {**(tags or {}), TAG: self.token}, **resources}
        if workflow is not None:
            self._fields["workflow"] = workflow
        options.job_record({"name": "x", "workflow": WORKFLOW, **self._fields})
        self._given = {} if python_exe is None else {"python_exe": python_exe}
        self._initialize = (initializer, initargs) if initializer is not None else None
        self._apps: dict[Any, FunctionApp] = {}
        self._pending: set[Future] = set()
        self._lock = threading.Lock()
        self._is_shut = False
        self._pilot: pilots.OwnPilot | None = None
        self._launcher = launcher
        self._next_look = 0.0
        self._is_here: bool | None = None
        if launcher:
            watcher_of(self.site).pilots.starters.add(self._see_to_launcher)
        if not _executors:
            atexit.register(_leave_all)
        _executors.add(self)

    # concurrent.futures -------------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Make a job that calls *fn* with these arguments, and return its future.

        For a function with `@balsam.app`, keywords that begin with '_' are fields of the job.

        Raises
        ------
        InvalidInput
            *fn* is no function, or it or an argument cannot be pickled; it is named.
        TypeError
            A function with `@balsam.app` does not take these arguments.
        RuntimeError
            The executor was shut down.
        """
        self._open()
        if not callable(fn):
            raise InvalidInput(
                f"submit takes a function and then its arguments, not {fn!r:.80}: submit(f, x)"
                " calls f(x) as a job"
            )
        given: Mapping[str, Any] = {}
        if isinstance(fn, FunctionApp):
            kwargs, given = options.split_options(kwargs, fn.__name__)
            fn.check_arguments(args, kwargs)
        if is_lasting(fn):
            app, call = self._app_of(fn), (args, kwargs)
        else:
            app, call = self._caller(fn), ((fn, *args), kwargs)
        future = app.submit_call(self.site, call, given, self._fields)
        self._note([future])
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Call *fn* with the items of *iterables*; yield the results in their order.

        Inputs whose number is not known are taken as there is room, some thousand jobs ahead.
        When a call raises, the results of its chunk are lost, and the iteration ends; the other
        jobs go on.

        Parameters
        ----------
        timeout
            Seconds from now until the last result has to be there.
        chunksize
            Calls of a job. None: one, unless there would be too many jobs (see
            docs/guide/functions.md).
        buffersize
            Calls that may be ahead of the results that were taken.
        """
        self._open()
        app = self._app_of(fn) if is_lasting(fn) else self._new_app(fn)
        return app.map_over(
            *(self.site, iterables, {}, timeout, chunksize, buffersize),
            shared=self._fields,
            follow=self._note,
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no further calls.

        Parameters
        ----------
        wait
            Block until all jobs have ended. Else they go on, also without this program.
        cancel_futures
            Kill those that do not run yet.
        """
        self._close(wait=wait, cancel=cancel_futures, at_once=False)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        # Ctrl-C means at once: jobs go back, and are run when somebody asks for them again.
        at_once = kind is not None and not issubclass(kind, Exception)
        self._close(wait=not at_once, cancel=False, at_once=at_once)

    def _close(self, *, wait: bool, cancel: bool, at_once: bool) -> None:
        self._is_shut = True  # while it waits, its launcher is still seen to
        if cancel:
            self._cancel()
        if wait:
            wait_for(list(self._pending))
        watcher_of(self.site).pilots.starters.discard(self._see_to_launcher)
        if self._pilot is not None:
            if self._pending and not at_once:
                self._pilot.leave()
            else:
                self._pilot.stop()

    # more ---------------------------------------------------------------------------------

    @classmethod
    def attach(cls, job_ids: Any, **given: Any) -> list[Future]:
        """Return futures of jobs of an earlier program (see `balsam.attach`)."""
        return attach(job_ids, **given)

    def jobs(self) -> QuerySet[Job]:
        """Return the jobs of this executor, and of what they submitted."""
        submitter_of(self.site).flush()
        return self.site.jobs.filter(**{f"tags__{TAG}": self.token})

    def __repr__(self) -> str:
        return f"<Executor {self.token} of {self.site.path}, {len(self._pending)} pending>"

    # inside -------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._is_shut:
            raise RuntimeError("cannot submit to an executor that was shut down")
        self._see_to_launcher()

    def _see_to_launcher(self) -> None:
        """Start a launcher when one is wanted, and there is none."""
        if self._launcher is False or (self._pilot is not None and self._pilot.is_running()):
            return
        with self._lock:
            if time.monotonic() < self._next_look:
                return
            self._next_look = time.monotonic() + pilots.LOOK_SECONDS
            if self._launcher == "auto" and self._finds_one():
                return
            if self._pilot is None:
                self._pilot = pilots.OwnPilot(self.site.path, TAG, self.token)
            self._pilot.start()

    def _finds_one(self) -> bool:
        """Tell whether there is a launcher, or ought to be none here."""
        client = self.site.client
        if "BALSAM_JOB_ID" in os.environ or not self._is_local(client):
            self._launcher = False
            return True
        workflow = self._fields.get("workflow", WORKFLOW)
        return pilots.is_one_for(client, workflow, self._fields["tags"], config.user_name())

    def _is_local(self, client: Client) -> bool:
        if self._is_here is None:
            self._is_here = pilots.is_this_machine(client)
        return self._is_here

    def _note(self, made: list[Future]) -> None:
        self._pending.update(made)
        for future in made:
            future.add_done_callback(self._pending.discard)

    def _cancel(self) -> None:
        submitter_of(self.site).flush()
        pending = {future.number: future for future in list(self._pending)}
        conditions = (
            Filter("id", (), "in", list(pending)),
            Filter("state", (), "ne", str(State.RUNNING)),
        )
        for number in self.site.client.kill_jobs(Query(filters=conditions)) if pending else ():
            pending[number].end_as_killed()

    def _app_of(self, function: Any) -> FunctionApp:
        if function not in self._apps:
            self._apps[function] = self._new_app(function)
        return self._apps[function]

    def _new_app(self, function: Any) -> FunctionApp:
        if isinstance(function, FunctionApp):
            if not self._given and self._initialize is None:
                return function
            return function.changed(self._given, self._initialize)
        return FunctionApp(function, self._given).changed({}, self._initialize)

    def _caller(self, function: Any) -> FunctionApp:
        """Return the app that calls what is given as its first argument.

        Functions of functions, and objects, are others each time: an app for each would fill the
        site with apps.
        """
        if "balsam.call" not in self._apps:
            given = {**self._given, "name": "balsam.call"}
            app = FunctionApp(_make_call(), given).changed({}, self._initialize)
            self._apps["balsam.call"] = app
        return self._apps["balsam.call"]


def is_lasting(function: Any) -> bool:
    """Tell whether *function* is one of a module or script, of which there are few."""
    if isinstance(function, FunctionApp):
        return True
    if isinstance(function, types.BuiltinFunctionType):
        return isinstance(function.__self__, types.ModuleType)
    name = getattr(function, "__qualname__", "<>")
    return isinstance(function, types.FunctionType) and "<" not in name


def _make_call() -> Callable[..., Any]:
    # A function in a function: it is pickled by value, for where there is no Balsam.
    def call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def _leave_all() -> None:
    for executor in list(_executors):
        if not executor._is_shut:
            executor.shutdown(wait=False)
