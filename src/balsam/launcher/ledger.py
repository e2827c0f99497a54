"""What the database is to be told. Pure."""

from __future__ import annotations

import msgspec

from balsam.launcher.careers import Held
from balsam.model.wire import Attempt, Move, Report


class Ledger:
    """Collects what happens to jobs, until it is taken as one report."""

    def __init__(self) -> None:
        self._report = Report(moves=[], attempts=[], released=[])
        self._attempts: dict[tuple[int, int], Attempt] = {}

    @property
    def is_empty(self) -> bool:
        return not (self._report.moves or self._attempts or self._report.released)

    def add(self, held: Held, moves: list[Move]) -> None:
        """A job has made moves, and its attempt goes on, or has ended."""
        self._report.moves += moves
        if held.attempt is not None:
            self._attempts[held.attempt.job, held.attempt.number] = held.attempt
            if held.attempt.ended_at is not None:
                held.attempt = None

    def release(self, job: int) -> None:
        """Others may go on with a job."""
        self._report.released.append(job)

    def take(self) -> Report:
        """Return what happened since the last call."""
        report, self._report = self._report, Report(moves=[], attempts=[], released=[])
        # An attempt that goes on will change while the report is on its way.
        copy = msgspec.structs.replace
        report.attempts = [a if a.ended_at else copy(a) for a in self._attempts.values()]
        self._attempts = {}
        return report
