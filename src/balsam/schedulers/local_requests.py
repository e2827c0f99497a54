"""The requests of the batch system `local`: one file each, in ``BALSAM_HOME/local``.

::

    lock             held (flock) by whoever changes something
    live/ID.json     waits or runs
    keepers/ID       held (flock) by the process that runs it, for as long as that lives
    ended/ID.json    is over; the last `REMEMBERED` stay
    keeper.log       what went wrong in those processes

Files are written aside and renamed: whoever dies on the way leaves the old or the new one. A
lock of a process that dies is free at once, whatever became of its number.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from balsam.errors import SchedulerAway, SchedulerError
from balsam.model.batch_job import BatchState

#: Requests that are over and still known.
REMEMBERED = 1000


class Request(msgspec.Struct, kw_only=True):
    """One request. Times are seconds since the epoch."""

    id: int
    name: str
    script: str
    output: str
    directory: str
    minutes: float
    queue: str
    environ: dict[str, str]  #: the submitter's, bytes as Latin-1; forgotten at the end
    host: str  #: where it was submitted, runs, and has run
    boot: str  #: what tells starts of that machine apart
    submitted_at: float
    state: BatchState = BatchState.QUEUED
    keeper: int = 0  #: number of the process that runs it
    is_cancelled: bool = False  #: somebody wants it ended
    reason: str = ""  #: how it ended
    exit_code: int | None = None
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def is_waiting(self) -> bool:
        return self.state is BatchState.QUEUED

    @property
    def variables(self) -> dict[bytes, bytes]:
        """Its environment: not all that is in one is UTF-8."""
        return {n.encode("latin-1"): v.encode("latin-1") for n, v in self.environ.items()}

    @property
    def is_ours(self) -> bool:
        """Whether its machine is this one: a home directory may be that of several."""
        return self.host == socket.gethostname() or self.boot == boot()


def boot() -> str:
    """Return what tells this start of the machine from others, and machines from one another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Requests:
    """The files of all requests of a user.

    What changes them is called with `lock` held.

    Raises
    ------
    SchedulerAway
        A file cannot be read or written: the disk is full, …
    SchedulerError
        A file has not what we write; the message names it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._live = directory / "live"
        self._ended = directory / "ended"
        self._keepers = directory / "keepers"
        self.log = directory / "keeper.log"
        with _told(directory):
            for path in (directory.parent, directory, self._live, self._ended, self._keepers):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let nobody else change requests; waits for whoever does."""
        file = self.directory / "lock"
        with _told(file):
            lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with _told(file):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def live(self) -> list[Request]:
        """Return those that wait or run, the oldest first."""
        numbers = sorted(set(_numbers(self._live)) - set(_numbers(self._ended)))
        return [_read(self._live / f"{number}.json") for number in numbers]

    def get(self, number: int) -> Request | None:
        """Return a request, if it is known still."""
        for directory in (self._ended, self._live):
            file = directory / f"{number}.json"
            if file.exists():
                return _read(file)
        return None

    def ended(self) -> Iterator[Request]:
        """Yield those that are over, the newest first."""
        for number in sorted(_numbers(self._ended), reverse=True):
            yield _read(self._ended / f"{number}.json")

    def next_id(self) -> int:
        return max([0, *_numbers(self._live), *_numbers(self._ended)]) + 1

    def write(self, request: Request) -> None:
        """Keep a request that waits or runs."""
        _write(self._live / f"{request.id}.json", request)

    def end(self, request: Request, state: BatchState, reason: str, now: float) -> None:
        """Keep how a request ended, and forget the oldest."""
        request.state, request.reason, request.ended_at = state, reason, now
        request.environ = {}
        _write(self._ended / f"{request.id}.json", request)
        old = sorted(_numbers(self._ended))[:-REMEMBERED]
        for file in (
            self._live / f"{request.id}.json",
            self._keepers / str(request.id),
            *(self._ended / f"{number}.json" for number in old),
        ):
            with _told(file):
                file.unlink(missing_ok=True)

    def hold(self, number: int) -> int | None:
        """Return a descriptor that holds the lock of a request's keeper; None: it is held."""
        file = self._keepers / str(number)
        with _told(file):
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
        return descriptor

    def is_kept(self, number: int) -> bool:
        """Tell whether the process that runs a request lives."""
        descriptor = self.hold(number)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None


def _numbers(directory: Path) -> list[int]:
    with _told(directory):
        stems = [name.removesuffix(".json") for name in os.listdir(directory)]
    return [int(stem) for stem in stems if stem.isdecimal()]


def _read(file: Path) -> Request:
    with _told(file):
        text = file.read_bytes()
    try:
        return msgspec.json.decode(text, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SchedulerError(
            f"{file} is not what Balsam wrote: {error}; remove it to forget this request"
        ) from error


def _write(file: Path, request: Request) -> None:
    aside = file.with_suffix(".new")
    try:
        with (
            _told(file),
            open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written,
        ):
            written.write(msgspec.json.encode(request))
            written.flush()
            os.fsync(written.fileno())
            aside.replace(file)
    except SchedulerAway:
        aside.unlink(missing_ok=True)
        raise


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raise `SchedulerAway`, with the path, for what the system refuses."""
    try:
        yield
    except OSError as error:
        what = error.filename or path
        raise SchedulerAway(f"the batch system 'local' cannot use {what}: {error.strerror}") from (
            error
        )
