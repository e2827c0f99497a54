"""`@balsam.app`: functions that can be submitted."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, overload

from balsam.callables.origin import function_name, is_importable
from balsam.client.new_jobs import PARENT_FIELDS, find_parent, several
from balsam.client.site import Site, default_site
from balsam.errors import InvalidInput
from balsam.functions import inside, options
from balsam.functions.calls import INLINE_BYTES, Writer
from balsam.functions.futures import Future
from balsam.functions.initializing import with_initializer
from balsam.functions.mapping import Chunk, map_calls
from balsam.functions.registration import Snapshot, app_of, register, replace_code
from balsam.functions.submission import submitter_of
from balsam.model.app import App
from balsam.model.job import LONGEST_NAME, Job

#: The workflow of functions that say none.
WORKFLOW = "functions"
#: An initializer of processes, and its arguments.
Initialize = tuple[Callable[..., Any], tuple[Any, ...]]
#: What a decorator can set beside fields of the app and of its jobs.
OWN_OPTIONS = ("name", "python_exe", "inline_bytes")


class FunctionApp:
    """A function that runs here when it is called, and as a job when it is submitted.

    Made by `app`. What it takes from outside (globals of a script, a closure) it takes as it is
    when it is first submitted; when one of these names another object later, it is registered
    anew.
    """

    __name__: str
    __qualname__: str

    def __init__(self, function: Callable[..., Any], given: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self._given = dict(given)
        #: What its apps are called; further versions are ``name@version``.
        self.name: str = given.get("name") or function_name(function)
        self._python: str | None = given.get("python_exe")
        self._inline_bytes: int = given.get("inline_bytes", INLINE_BYTES)
        self._of_app = {k: v for k, v in given.items() if k in options.APP_FIELDS}
        own = (*OWN_OPTIONS, *options.APP_FIELDS)
        self._of_jobs = {k: v for k, v in given.items() if k not in own}
        self._registered: dict[str, tuple[str, Snapshot]] = {}
        #: The last template, and what it was made of.
        self._template_of: tuple[tuple[str, ...], Any, Job] | None = None
        #: The app that the function's module has, when this is a changed one.
        self._origin: FunctionApp = self
        self._initialize: Initialize | None = None

    def changed(self, given: Mapping[str, Any], initialize: Initialize | None) -> FunctionApp:
        """Return the same function with further options and an initializer of its processes."""
        other = FunctionApp(self.__wrapped__, {**self._given, "name": self.name, **given})
        other._initialize, other._origin = initialize, self._origin
        return other

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<balsam.app {self.name}>"

    # submitting ---------------------------------------------------------------------------

    def submit(self, *args: Any, **kwargs: Any) -> Future:
        """Make a job that calls the function with these arguments, and return its future.

        A future among the arguments, also inside lists and the like, makes its job a parent and
        stands for its result. Keywords that begin with '_' are fields of the job:
        ``_num_nodes=2``, ``_wall_time_minutes=10``, ``_tags={"k": "v"}``, ``_parents=[future]``.

        Raises
        ------
        TypeError
            The function does not take these arguments.
        InvalidInput
            An argument cannot be pickled, or an option cannot be; it is named.
        """
        words, given = options.split_options(kwargs, self.__name__)
        self.check_arguments(args, words)
        return self.submit_call(default_site(), (args, words), given)

    def check_arguments(self, words: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Raise `TypeError` unless the function takes these arguments."""
        try:
            self._signature.bind(*words, **keywords)
        except TypeError as error:
            raise TypeError(f"{self.__name__}{self._signature}: {error}") from None

    def map(
        self,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        """Call the function with the items of *iterables*; yield the results in their order.

        As `Executor.map`, with options as for `submit`.
        """
        others, given = options.split_options(kwargs, self.__name__)
        if others:
            raise TypeError(f"map() takes no keyword {next(iter(others))!r}; options begin with _")
        return self.map_over(default_site(), iterables, given, timeout, chunksize, buffersize)

    def submit_call(
        self,
        site: Site,
        call: tuple[tuple[Any, ...], Mapping[str, Any]],
        given: Mapping[str, Any],
        shared: Mapping[str, Any] | None = None,
    ) -> Future:
        """Submit one call to *site*.

        Parameters
        ----------
        given
            Fields of its job.
        shared
            Fields of all jobs of whoever submits, which the function's own ones go before.
        """
        template = self._template(site, given, shared)
        written = self._writer(site).one(*call)
        record = copy.copy(template)
        record.payload = written.payload
        _add_parents(record, site, written.futures)
        return submitter_of(site).submit([record], name=record.name)[0]

    def map_over(
        self,
        site: Site,
        iterables: tuple[Iterable[Any], ...],
        given: Mapping[str, Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        shared: Mapping[str, Any] | None = None,
        follow: Callable[[list[Future]], None] | None = None,
    ) -> Iterator[Any]:
        """As `map`, on *site*; *follow* is given all futures as they are made."""
        template = self._template(site, given, shared)
        writer = self._writer(site)

        def submit(chunks: list[Chunk]) -> list[tuple[Future, bool]]:
            records: list[Job] = []
            kinds: list[bool] = []
            for chunk in chunks:
                payload = writer.many(chunk) if len(chunk) > 1 else None
                for call in [chunk] if payload else chunk:
                    record = copy.copy(template)
                    if payload:
                        record.payload = payload
                    else:
                        written = writer.one(*call)
                        record.payload = written.payload
                        _add_parents(record, site, written.futures)
                    records.append(record)
                    kinds.append(payload is not None)
            futures = submitter_of(site).submit(records, name=template.name)
            if follow:
                follow(futures)
            return list(zip(futures, kinds, strict=True))

        return map_calls(site.client, submit, iterables, timeout, chunksize, buffersize)

    # registering --------------------------------------------------------------------------

    def register(self, site: Site | None = None, *, replace: bool = False) -> str:
        """Register the function as an app of *site* (default: the one in use); return its name.

        Submitting does this by itself, and never changes what is registered: what was changed
        since is another app, ``name@version``.

        Parameters
        ----------
        replace
            Give the app `name` the function as it is now: its jobs that wait, or are run again,
            will run this.
        """
        site = site or default_site()
        if replace:
            app: App = self._app()
            if replace_code(site.client, app):
                return app.name
        return self._registered_at(site)

    def _registered_at(self, site: Site) -> str:
        client = site.client
        job = inside.current_job(client)
        if job is not None and job.application.partition("@")[0] == self.name:
            return job.application  # it submits itself: exactly what runs
        key = str(site.path)
        if key in self._registered:
            name, snapshot = self._registered[key]
            if snapshot.is_still(self.__wrapped__):
                return name
        snapshot = Snapshot(self.__wrapped__)
        name = register(client, self._app())
        self._registered[key] = name, snapshot
        return name

    def _app(self) -> App:
        stand_in: Any = None
        if isinstance(self.__wrapped__, type):
            stand_in = _constructor(self.__wrapped__)
        elif is_importable(self._origin) and self._python is None:
            # Not for another Python: the function's module imports balsam, which may not be there.
            stand_in = _Unwrapped(self._origin)
        if self._initialize is not None:
            stand_in = with_initializer(stand_in or self.__wrapped__, *self._initialize)
        return app_of(self.name, self.__wrapped__, self._python, self._of_app, stand_in)

    def _template(
        self, site: Site, given: Mapping[str, Any], shared: Mapping[str, Any] | None
    ) -> Job:
        """Return a record of the job of a call, without its arguments."""
        application = self._registered_at(site)
        key = str(site.path), application, os.environ.get("BALSAM_JOB_ID", "")
        last = self._template_of
        if not given and last is not None and last[0] == key and last[1] is shared:
            return last[2]
        fields = options.merged(
            {"name": job_name(self.__wrapped__), "workflow": WORKFLOW},
            inside.inherited(site.client),
            shared or {},
            self._of_jobs,
            given,
        )
        for name in PARENT_FIELDS:
            if fields.get(name):
                fields[name] = [_parent(site, one, self.name) for one in _several(fields[name])]
        template = options.job_record({**fields, "application": application})
        if not given:
            self._template_of = key, shared, template
        return template

    def _writer(self, site: Site) -> Writer:
        return Writer(site.path, self.__name__, self._argument_name, self._inline_bytes)

    def _argument_name(self, position: int) -> str:
        try:
            return repr(list(self._signature.parameters)[position])
        except (IndexError, ValueError):
            return f"number {position + 1}"

    @functools.cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.__wrapped__)

    # pickling -----------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        if is_importable(self):
            return self.__qualname__
        # In two steps: the function may refer to itself by this object.
        given = {**self._given, "name": self.name}
        return _blank, (), {"function": self.__wrapped__, "given": given}

    def __setstate__(self, state: dict[str, Any]) -> None:
        FunctionApp.__init__(self, state["function"], state["given"])


class _Unwrapped:
    """Pickled, it is the function under an app that can be imported."""

    def __init__(self, app: FunctionApp) -> None:
        self._app = app

    def __reduce__(self) -> Any:
        return getattr, (self._app, "__wrapped__")


def _constructor(kind: type) -> Callable[..., Any]:
    # Processes of jobs take a class for one of 0.7's apps; a function in a function is pickled
    # by value.
    def construct(*args: Any, **kwargs: Any) -> Any:
        return kind(*args, **kwargs)

    return construct


def _blank() -> FunctionApp:
    return FunctionApp.__new__(FunctionApp)


def job_name(function: Any) -> str:
    """Return the name of jobs of *function*."""
    name = getattr(function, "__name__", None) or type(function).__name__
    return str(name).strip("<>").encode()[:LONGEST_NAME].decode(errors="ignore")


def _several(references: Any) -> Iterable[Any]:
    return (references,) if isinstance(references, Future) else several(references)


def _parent(site: Site, reference: Any, child: str) -> int:
    """Return the id of a parent given as future, job, id or UUID."""
    if isinstance(reference, Future):
        if reference.site != site:
            raise InvalidInput(
                f"{reference!r} is of the site {reference.site.path}, and cannot be a parent or"
                f" an argument in {site.path}; give its result"
            )
        return reference.number
    return find_parent(site.client, reference, child)


def _add_parents(record: Job, site: Site, futures: list[Future]) -> None:
    """Make the jobs of *futures* parents of *record*."""
    if futures:
        own = [_parent(site, future, record.name) for future in futures]
        record.parents = list(dict.fromkeys([*record.parents, *own]))


def check_function(function: Any) -> None:
    """Raise `InvalidInput` unless `app` can take *function*."""
    if isinstance(function, type):
        raise InvalidInput(f"@balsam.app takes functions, and {function.__name__} is a class")
    if not callable(function):
        raise InvalidInput(f"@balsam.app takes functions, not {function!r}")
    name = getattr(function, "__name__", repr(function))
    if inspect.iscoroutinefunction(function):
        raise InvalidInput(f"{name} is async; submit a function that does asyncio.run({name}(…))")
    if inspect.isgeneratorfunction(function):
        raise InvalidInput(f"{name} is a generator, which has no result; return a list")
    for parameter in inspect.signature(function).parameters.values():
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.name.startswith("_") and not variadic:
            raise InvalidInput(
                f"parameter {parameter.name!r} of {name} begins with '_', as options of its jobs"
                " do; give it another name"
            )


@overload
def app(function: Callable[..., Any], /) -> FunctionApp: ...
@overload
def app(**given: Any) -> Callable[[Callable[..., Any]], FunctionApp]: ...
def app(function: Callable[..., Any] | None = None, /, **given: Any) -> Any:
    """Make a function one that can be submitted as jobs: ``@app`` or ``@app(OPTIONS)``.

    Calling it runs it here, as ever; ``f.submit(…)`` makes a job.

    Parameters
    ----------
    name
        What the app is called; default: ``module.function``, for ``__main__`` the script's name.
    python_exe
        The interpreter that runs it, where Balsam need not be; default: this program's.
    inline_bytes
        Larger arguments are kept in files.

    All others are fields of the app (``modules``, ``conda``, ``envscript``,
    ``retry``…) or of its jobs (``num_nodes``, ``threads_per_rank``, ``gpus_per_rank``,
    ``memory_mib``, ``workflow``, ``tags``…).

    Raises
    ------
    InvalidInput
        It cannot be submitted: a class, a generator, a parameter that begins with '_'.
    UnknownField
        There is no such option.
    """
    known = (*OWN_OPTIONS, *options.APP_FIELDS, *options.JOB_FIELDS)
    options.check_names(given, known, "@balsam.app")
    if function is None:
        return lambda function: app_with(function, given)
    return app_with(function, given)


def app_with(function: Callable[..., Any], given: Mapping[str, Any]) -> FunctionApp:
    """Return the app of *function* with the options *given* (see `app`)."""
    if isinstance(function, FunctionApp):
        raise InvalidInput(f"{function.name} is an app already")
    check_function(function)
    return FunctionApp(function, given)
