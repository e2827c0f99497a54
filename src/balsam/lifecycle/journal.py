"""What a launcher did, on disk before anybody is told.

One JSON line for each batch, written before it goes to the workers (`sent`) or to the
database (`done`). When a launcher dies, the next one replays its journal: results that
never reached the database arrive after all, and every execution has its attempt.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from balsam.errors import BalsamError, StoreFull
from balsam.model.states import State
from balsam.model.wire import Attempt, Move, Outcome, Report

#: Rewritten with only what is open when it grows beyond this.
LARGEST_BYTES = 8 * 2**20


class JournalDamaged(BalsamError):
    """A line in the middle of a journal cannot be read."""


class Sent(msgspec.Struct, array_like=True, frozen=True):
    """A run handed to a worker: it may have started from here on."""

    job: int
    attempt: int
    from_state: State
    time: float
    node: str


class Line(msgspec.Struct, omit_defaults=True):
    """One batch."""

    sent: list[Sent] = []
    back: list[int] = []  #: jobs whose run was given back without having started
    done: Report | None = None


class Journal:
    """The journal of a running launcher."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._encoder = msgspec.json.Encoder()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = 0
        self._open: dict[int, Sent] = {}

    def sent(self, runs: list[Sent]) -> None:
        self._open.update((run.job, run) for run in runs)
        self._write(Line(sent=runs))

    def back(self, jobs: list[int]) -> None:
        for job in jobs:
            self._open.pop(job, None)
        self._write(Line(back=jobs))

    def done(self, report: Report) -> None:
        _close(self._open, report.attempts)
        self._write(Line(done=report))

    def _write(self, line: Line) -> None:
        """Write a line, or nothing of it: what follows half a line could not be read.

        Raises
        ------
        StoreFull
            There is no space.
        """
        text = self._encoder.encode(line) + b"\n"
        try:
            written = os.write(self._file, text)
        except OSError as error:
            raise StoreFull(f"cannot write the journal {self.path}: {error.strerror}") from error
        if written < len(text):
            os.ftruncate(self._file, self._size)
            raise StoreFull(f"cannot write the journal {self.path}: no space left")
        self._size += written

    @property
    def is_long(self) -> bool:
        return self._size > LARGEST_BYTES

    def shorten(self, unconfirmed: Report, attempts: list[Attempt]) -> None:
        """Keep only open runs and what the database has not confirmed."""
        aside = self.path.with_suffix(".new")
        os.close(self._file)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        self._file, self._size = os.open(aside, flags, 0o600), 0
        self._write(Line(sent=list(self._open.values())))
        kept = msgspec.structs.replace(unconfirmed, attempts=attempts)
        self._write(Line(done=kept))
        aside.replace(self.path)

    def close(self, *, remove: bool) -> None:
        os.close(self._file)
        if remove:
            self.path.unlink()


def _close(open_runs: dict[int, Sent], attempts: list[Attempt]) -> None:
    """Take out the runs that were heard of; a later one may have been sent meanwhile."""
    for attempt in attempts:
        run = open_runs.get(attempt.job)
        if run is not None and run.attempt <= attempt.number:
            del open_runs[attempt.job]


def replay(path: Path, launcher_id: int) -> Report:
    """Return, as one report, all that a dead launcher's journal knows.

    Runs that were handed to a worker and of which nothing was heard become attempts whose
    fate is not known.

    Raises
    ------
    FileNotFoundError
        There is no journal.
    JournalDamaged
        A line that is not the last one cannot be read.
    """
    decoder = msgspec.json.Decoder(Line)
    report = Report(moves=[], attempts=[], released=[], again=True)
    open_runs: dict[int, Sent] = {}
    attempts: dict[tuple[int, int], Attempt] = {}
    lines = path.read_bytes().split(b"\n")
    for number, text in enumerate(lines, 1):
        if not text:
            continue
        try:
            line = decoder.decode(text)
        except msgspec.DecodeError as error:
            if number == len(lines):  # torn while it was written: nobody was told of it
                break
            raise JournalDamaged(f"{path}, line {number} cannot be read: {error}") from error
        open_runs.update((run.job, run) for run in line.sent)
        for job in line.back:
            open_runs.pop(job, None)
        if line.done is not None:
            report.moves += line.done.moves
            attempts.update(((a.job, a.number), a) for a in line.done.attempts)
            _close(open_runs, line.done.attempts)
    for run in open_runs.values():
        report.moves.append(Move(run.job, run.attempt, run.from_state, State.RUNNING, run.time))
        attempts[run.job, run.attempt] = Attempt(
            job=run.job,
            number=run.attempt,
            launcher_id=launcher_id,
            node=run.node,
            started_at=run.time,
            outcome=Outcome.RUNNING,
            message="handed to a worker; whether it started is not known",
        )
    report.attempts = list(attempts.values())
    return report
