"""A prototype: what all jobs of one `balsam job` share, and what each takes from its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

import msgspec

from balsam.cli.insertion import BATCH
from balsam.cli.sources import Source
from balsam.cli.templates import Maker, Templates
from balsam.cli.values import as_text, field_value, json_value, parameter, typed
from balsam.errors import InvalidInput, InvalidResources
from balsam.model.app import App, split_words
from balsam.model.job import EDITABLE, FIELDS, Job, check_job
from balsam.model.parameters import check_parameters, taken_by
from balsam.model.resources import Request

#: Fields whose text may hold templates.
TEXT_FIELDS = tuple(name for name in EDITABLE if FIELDS[name].type is str)
#: What stands before the colon in a column such as ``tag:size``, or the option → the field.
ENTRY_FIELDS = {"param": "parameters", "tag": "tags", "env": "environ", "data": "data"}
_ABSENT: Any = object()


class Given(msgspec.Struct):
    """What the options of the command line say, templates not yet filled."""

    texts: dict[str, str] = {}  #: field → template
    entries: dict[str, dict[str, str]] = {}  #: param, tag, env → key → template
    data: str | None = None  #: JSON template
    values: dict[str, Any] = {}  #: field → value, the same for all jobs


class Summary(msgspec.Struct):
    """What the first pass over a source found."""

    first: Job | None = None
    applications: set[str] = set()
    workflows: set[str] = set()
    parents: set[int] = set()  #: ids; rows of the file that are parents are not among them
    requests: set[Request] = set()


class Prototype:
    """Makes a `Job` of each record of *source*.

    A column with the name of a field sets it, and ``param:x``, ``tag:x``, ``env:x``,
    ``data:x`` set one entry, unless an option says otherwise.

    Parameters
    ----------
    job
        The values that nothing else sets.

    Raises
    ------
    InvalidInput
        A template or a value that all jobs share cannot be taken.
    """

    def __init__(self, job: Job, given: Given, source: Source) -> None:
        self._source = source
        self._templates = Templates(source.names, whole=source.whole, typed=source.typed)
        self._always: list[tuple[str, Maker]] = []
        self._sometimes: list[tuple[str, Maker]] = []
        shared: dict[str, Any] = dict(given.values)
        for field, text in given.texts.items():
            maker = self._templates.compile(text, option_name(field))
            if maker is None:
                shared[field] = text
            else:
                self._always.append((field, maker))
        columns = self._field_columns()
        for prefix, field in ENTRY_FIELDS.items():
            base = shared.get(field, getattr(job, field))
            column = columns.pop(field, None)
            if prefix == "data" and given.data is not None:
                maker = self._templates.compile_json(given.data, "--data")
                base = json_value(given.data, "--data") if maker is None else maker
            elif column is not None:
                base = _or_else(column, base)
            self._add_entries(prefix, field, base, given.entries.get(prefix, {}), shared)
        said = {*given.texts, *given.values}
        self._sometimes += [(f, maker) for f, maker in columns.items() if f not in said]
        self._job = msgspec.structs.replace(job, **shared)

    @property
    def unused(self) -> list[str]:
        """The columns that set nothing and stand in no template."""
        used = self._templates.used
        return [
            name
            for name in self._source.columns
            if name not in used
            and name.replace("-", "_") not in EDITABLE
            and not (":" in name and name.partition(":")[0] in ENTRY_FIELDS)
        ]

    def _field_columns(self) -> dict[str, Maker]:
        """Return what makes the value of each field that has a column of its own."""
        names = self._source.names
        fields = {name.replace("-", "_"): name for name in self._source.columns}
        return {f: self._column(f, names[name]) for f, name in fields.items() if f in EDITABLE}

    def _column(self, field: str, position: int) -> Maker:
        text = FIELDS[field].type is str
        read = typed if self._source.typed else field_value

        def value(record: Sequence[Any]) -> Any:
            found = record[position]
            if found is None or (found == "" and not text):
                return _ABSENT
            return read(field, found)

        return value

    def _add_entries(
        self,
        prefix: str,
        field: str,
        base: Any,
        options: dict[str, str],
        shared: dict[str, Any],
    ) -> None:
        """Arrange for *field*: *base* (a value or a maker) with the entries laid over it."""
        fixed: dict[str, Any] = {}
        made: list[tuple[str, Maker]] = []
        numbers = prefix == "param"
        for key, text in options.items():
            compile_one = self._templates.compile_value if numbers else self._templates.compile
            maker = compile_one(text, f"--{prefix} {key}")
            if maker is not None:
                made.append((key, maker))
            else:
                fixed[key] = parameter(text) if numbers else text
        for name in self._source.columns:
            if name.startswith(f"{prefix}:") and (key := name.partition(":")[2]) not in options:
                made.append((key, self._entry(self._source.names[name], prefix)))
        if not callable(base) and not made:
            shared[field] = {**_object(base, field), **fixed} if fixed else base
            return
        if not made and not fixed:
            self._always.append((field, base))
            return

        def value(record: Sequence[Any]) -> dict[str, Any]:
            merged = {**_object(base(record) if callable(base) else base, field), **fixed}
            for key, maker in made:
                entry = maker(record)
                if entry is not _ABSENT:
                    merged[key] = entry
            return merged

        self._always.append((field, value))

    def _entry(self, position: int, prefix: str) -> Maker:
        cells = not self._source.typed

        def value(record: Sequence[Any]) -> Any:
            found = record[position]
            if found is None:
                return _ABSENT
            if prefix in ("tag", "env"):
                return as_text(found)
            return parameter(found) if cells else found

        return value

    def make(self, record: Sequence[Any]) -> Job:
        """Return the job of *record*."""
        changes = {field: maker(record) for field, maker in self._always}
        for field, maker in self._sometimes:
            value = maker(record)
            if value is not _ABSENT:
                changes[field] = value
        return msgspec.structs.replace(self._job, **changes)

    def check(self, apps: Mapping[str, App]) -> Summary:
        """Make every job that must be looked at, check it, and say what they need.

        Parameters
        ----------
        apps
            Those that there are, by name: jobs give the parameters that these take.

        Raises
        ------
        InvalidInput
            A job cannot be made or stored; the message says which line it came from.
        """
        summary = Summary()
        source = self._source
        taken = cache(lambda name: taken_by(apps[name]) if name in apps else None)
        furthest, from_where = 0, ""
        for number, record in enumerate(source.samples(), 1):
            try:
                job = self.make(record)
                check_job(job)
                _check_texts(job)
                wanted = taken(job.application)
                if wanted is not None and not job.payload:
                    check_parameters(wanted, job.args, job.parameters)
                for parent in (*job.parents, *job.parents_any, *job.parents_failed):
                    if parent >= 0:
                        summary.parents.add(parent)
                        continue
                    _check_row(-parent, number)
                    if -parent > furthest:
                        furthest, from_where = -parent, source.where()
            except InvalidInput as error:
                where = source.where()
                kind = InvalidResources if isinstance(error, InvalidResources) else InvalidInput
                raise kind(f"{where}: {error}" if where else str(error)) from error
            if summary.first is None:
                summary.first = job
            summary.applications.add(job.application)
            if len(summary.workflows) < 2:
                summary.workflows.add(job.workflow)
            summary.requests.add(job.request)
        total = source.count() or 0
        if furthest > total:
            raise InvalidInput(
                f"{from_where or 'parents'}: there is no row {furthest} to be a parent; there are"
                f" {total}"
            )
        return summary

    def batches(self, size: int) -> Iterator[list[Job]]:
        """Yield all jobs in lists of *size*."""
        jobs = map(self.make, self._source.records())
        while batch := list(islice(jobs, size)):
            yield batch


def _check_row(parent: int, child: int) -> None:
    """Raise `InvalidInput` when a row's job would be there only in a later transaction."""
    if (parent - 1) // BATCH > (child - 1) // BATCH:
        raise InvalidInput(
            f"the parent in row {parent} comes too late; put parents before their children"
        )


def option_name(field: str) -> str:
    """Return the option that sets *field*."""
    names = {"stage_in_url": "--url-in", "stage_out_url": "--url-out"}
    return names.get(field, f"--{field.replace('_', '-')}")


def _or_else(maker: Maker, base: Any) -> Callable[[Sequence[Any]], Any]:
    def value(record: Sequence[Any]) -> Any:
        found = maker(record)
        return base if found is _ABSENT else found

    return value


def _object(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{field} is no object, so no entry of it can be set")
    return value


def _check_texts(job: Job) -> None:
    for field in TEXT_FIELDS:
        text = getattr(job, field)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InvalidInput(
                    f"{field} is not UTF-8 at character {error.start + 1}"
                ) from error
        if "\0" in text:
            raise InvalidInput(f"{field} contains a NUL character; leave it out")
    split_words(job.args)
