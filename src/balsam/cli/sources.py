"""Where the jobs of one `balsam job` come from: one, a range, the lines or records of a file.

A source yields *records*, sequences of values in the order of its `names`; templates and
fields are made from them. It can be read more than once: a first pass checks everything,
the next inserts.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from balsam.cli.values import json_value
from balsam.errors import InvalidInput

_RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
FORMATS = ("json", "jsonl", "csv", "toml")
#: Ids end here, and so does an array.
MOST_JOBS = 2**32 - 1


class Source(Protocol):
    """Records for jobs, in order."""

    @property
    def names(self) -> Mapping[str, int]:
        """Name → position in each record."""

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""

    @property
    def typed(self) -> bool:
        """Whether values have JSON's types; else they are text that may look like a number."""

    @property
    def columns(self) -> Sequence[str]:
        """The names that a file brought: they may set fields."""

    def records(self) -> Iterator[Sequence[Any]]:
        """Yield the records from the first; `where` tells of the last one yielded."""

    def samples(self) -> Iterator[Sequence[Any]]:
        """Yield the records that must be checked to know that all are good."""

    def where(self) -> str:
        """Say where the last record came from (file and line), '' when there is no file."""

    def count(self) -> int | None:
        """Return how many records there are, None before they were read once."""

    def close(self) -> None:
        """Give up what is held open."""


class Single:
    """One job, without templates."""

    names: Mapping[str, int] = {}
    whole = True
    typed = False
    columns: Sequence[str] = ()

    def records(self) -> Iterator[Sequence[Any]]:
        yield ()

    samples = records

    def where(self) -> str:
        return ""

    def count(self) -> int:
        return 1

    def close(self) -> None:
        pass


class Array:
    """The whole numbers of ``0-999``, ``0-99:5``, ``1,4,7-9``.

    Raises
    ------
    InvalidInput
        The text is no such list.
    """

    names: Mapping[str, int] = {"i": 0}
    whole = True
    typed = False
    columns: Sequence[str] = ()

    def __init__(self, text: str) -> None:
        self._ranges = [_parse_range(part.strip(), text) for part in text.split(",")]
        if self.count() > MOST_JOBS:
            raise InvalidInput(f"--array {text}: {self.count()} jobs; the most is {MOST_JOBS}")

    def records(self) -> Iterator[Sequence[Any]]:
        for numbers in self._ranges:
            for i in numbers:
                yield (i,)

    def samples(self) -> Iterator[Sequence[Any]]:
        for numbers in self._ranges:
            yield (numbers[0],)
            yield (numbers[-1],)

    def where(self) -> str:
        return ""

    def count(self) -> int:
        return sum(map(len, self._ranges))

    def close(self) -> None:
        pass


def _parse_range(part: str, text: str) -> range:
    match = _RANGE.fullmatch(part)
    if not match:
        raise InvalidInput(f"--array {text!r}: {part!r} is not N, N-M or N-M:STEP")
    first, last = int(match[1]), int(match[2] or match[1])
    step = int(match[3] or 1)
    if last < first:
        raise InvalidInput(f"--array {text!r}: {part!r} ends before it begins")
    if step < 1:
        raise InvalidInput(f"--array {text!r}: the step of {part!r} must be 1 or more")
    if last > 2**63 - 1:
        raise InvalidInput(f"--array {text!r}: {last} is too large")
    return range(first, last + 1, step)


def _spooled(stream: BinaryIO) -> BinaryIO:
    """Return a file with all that *stream*, a pipe, still holds: it can be read again."""
    kept = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the source
    shutil.copyfileobj(stream, kept)
    return kept


class _File:
    """What the sources that read a file have in common: places, and counting."""

    whole = False
    typed = False
    names: Mapping[str, int]
    columns: Sequence[str] = ()

    def __init__(self, file: str, option: str) -> None:
        self._file = file
        self._spool: BinaryIO | None = None
        self._name = "standard input" if file == "-" else file
        self._line = 0
        self._unit = "line"
        self._count: int | None = None
        try:
            if file == "-":
                self._spool = _spooled(sys.stdin.buffer)
                return
            with open(file, "rb") as stream:
                if not stream.seekable():
                    self._spool = _spooled(stream)
        except OSError as error:
            raise InvalidInput(f"{option} {file}: cannot be read: {error.strerror}") from error

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()

    def _raw_lines(self) -> Iterator[bytes]:
        if self._spool is not None:
            self._spool.seek(0)
            yield from self._spool
            return
        try:
            with open(self._file, "rb") as stream:
                yield from stream
        except OSError as error:
            raise InvalidInput(f"{self._name}: cannot be read: {error.strerror}") from error

    def where(self) -> str:
        return f"{self._name}, {self._unit} {self._line}"

    def count(self) -> int | None:
        return self._count

    def rows(self) -> Iterator[Sequence[Any]]:
        raise NotImplementedError

    def records(self) -> Iterator[Sequence[Any]]:
        number = -1
        for number, row in enumerate(self.rows()):
            yield (number, *row)
        self._count = number + 1

    samples = records

    def text_lines(self) -> Iterator[tuple[int, str]]:
        """Yield (number, line without its end), the file read from the start."""
        for number, raw in enumerate(self._raw_lines(), 1):
            self._line = number
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            try:
                line = raw.decode()
            except UnicodeDecodeError as error:
                raise InvalidInput(
                    f"{self.where()}: not UTF-8 at column {error.start + 1}"
                ) from error
            if "\0" in line:
                column = line.index("\0") + 1
                raise InvalidInput(f"{self.where()}: a NUL character at column {column}")
            yield number, line.rstrip("\r\n")

    def text(self) -> str:
        return "".join(f"{line}\n" for _, line in self.text_lines())


class Lines(_File):
    """The lines of a file that are not blank: ``{i}`` from 0 and ``{line}``."""

    names: Mapping[str, int] = {"i": 0, "line": 1}

    def __init__(self, file: str) -> None:
        super().__init__(file, "--each-line")

    def rows(self) -> Iterator[Sequence[Any]]:
        for _, line in self.text_lines():
            if line.strip():
                yield (line,)


class Table(_File):
    """The records of a CSV file; the first line names the columns."""

    def __init__(self, file: str) -> None:
        super().__init__(file, "--from-file")
        self.columns = self._header()
        self.names = _positions(self.columns)

    def _reader(self) -> Iterator[list[str]]:
        lines = (f"{line}\n" for _, line in self.text_lines())
        reader = csv.reader(lines, strict=True)
        while True:
            start = self._line + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise InvalidInput(f"{self.where()}: malformed CSV: {error}") from error
            if row:
                self._line, end = start, self._line
                yield row
                self._line = end

    def _header(self) -> list[str]:
        for row in self._reader():
            header = [name.strip() for name in row]
            for n, name in enumerate(header, 1):
                if not name:
                    raise InvalidInput(f"{self.where()}: column {n} of the header has no name")
                if header.index(name) != n - 1:
                    raise InvalidInput(f"{self.where()}: column {n} is {name!r} once more")
            return header
        raise InvalidInput(f"{self._name} is empty; its first line must name the columns")

    def rows(self) -> Iterator[Sequence[Any]]:
        reader = self._reader()
        next(reader)
        width = len(self.columns)
        for row in reader:
            if len(row) < width:
                raise InvalidInput(
                    f"{self.where()}: {len(row)} columns instead of {width};"
                    f" column {len(row) + 1} ({self.columns[len(row)]!r}) is missing"
                )
            if len(row) > width:
                raise InvalidInput(
                    f"{self.where()}: {len(row)} columns instead of {width};"
                    f" column {width + 1} ({row[width]!r}) has no name in the header"
                )
            yield row


class Records(_File):
    """The objects of a JSON, JSON lines or TOML file; a key that one lacks has no value.

    JSON is an array of objects, TOML an array of tables (``[[job]]``); either may be the
    only member of the whole.
    """

    typed = True

    def __init__(self, file: str, kind: str) -> None:
        super().__init__(file, "--from-file")
        self._all: list[Any] | None = None
        if kind != "jsonl":
            self._unit = "record"
            self._all = self._whole_file(kind)
        self.columns = list(dict.fromkeys(key for row in self._objects() for key in row))
        self.names = _positions(self.columns)

    def _whole_file(self, kind: str) -> list[Any]:
        text = self.text()
        whole = json_value(text, self._name) if kind == "json" else _toml(text, self._name)
        if isinstance(whole, dict) and len(whole) == 1:
            whole = next(iter(whole.values()))
        if not isinstance(whole, list):
            expected = "an array of objects" if kind == "json" else "an array of tables, [[job]]"
            raise InvalidInput(f"{self._name}: expected {expected}")
        return whole

    def _objects(self) -> Iterator[dict[str, Any]]:
        if self._all is not None:
            for number, value in enumerate(self._all, 1):
                self._line = number
                yield self._checked(value)
            return
        for _, line in self.text_lines():
            if line.strip():
                yield self._checked(self._decode(line))

    def _decode(self, line: str) -> Any:
        try:
            return msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            try:
                json.loads(line)
            except json.JSONDecodeError as found:
                raise InvalidInput(
                    f"{self.where()} column {found.colno}: malformed JSON: {found.msg}"
                ) from error
            raise InvalidInput(f"{self.where()}: malformed JSON: {error}") from error

    def _checked(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InvalidInput(f"{self.where()}: expected an object, found {as_short(value)}")
        return value

    def rows(self) -> Iterator[Sequence[Any]]:
        columns = self.columns
        for found in self._objects():
            yield [found.get(name) for name in columns]


def as_short(value: Any) -> str:
    """Return JSON of *value*, cut to fit a message."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else f"{text[:37]}…"


def _toml(text: str, name: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{name}: malformed TOML: {error}") from error


def _positions(columns: Sequence[str]) -> dict[str, int]:
    """Return the place of each column after the running number; a column 'i' hides it."""
    return {"i": 0, **{name: n for n, name in enumerate(columns, 1)}}


def open_records(file: str) -> Table | Records:
    """Return the source for the file of ``--from-file``, by the end of its name.

    ``-`` is standard input, as JSON lines.

    Raises
    ------
    InvalidInput
        The end is not known, or the file cannot be read or is malformed.
    """
    kind = Path(file).suffix.lower().lstrip(".")
    if file == "-" or kind == "ndjson":
        kind = "jsonl"
    if kind not in FORMATS:
        known = ", ".join(f".{known}" for known in FORMATS)
        raise InvalidInput(f"--from-file {file}: the name must end in one of {known}")
    return Table(file) if kind == "csv" else Records(file, kind)
