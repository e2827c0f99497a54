"""What the database has not been told yet."""

from __future__ import annotations

from collections.abc import Iterable

from balsam.model.transfer import Transfer
from balsam.model.wire import Attempt, Report


class Unsent:
    """Collects news for the next report; of attempts and transfers the newest word."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.report = Report(moves=[], attempts=[], released=[])
        self.since: float | None = None  #: when the oldest of it came; None: there is nothing
        self._attempts: dict[tuple[int, int], Attempt] = {}
        self._transfers: dict[tuple[int, str, int], Transfer] = {}

    @property
    def attempts(self) -> list[Attempt]:
        return list(self._attempts.values())

    def add(self, news: Report, now: float) -> None:
        """Add what happened to jobs."""
        self.report.moves += news.moves
        self.report.released += news.released
        self._attempts.update(((a.job, a.number), a) for a in news.attempts)
        self.since = now if self.since is None else self.since

    def add_transfers(self, news: Iterable[Transfer], now: float) -> None:
        """Add how far transfers are."""
        for transfer in news:
            self._transfers[transfer.job, transfer.direction, transfer.number] = transfer
            self.since = now if self.since is None else self.since

    def take(self) -> Report:
        """Return all of it, as one report, and begin anew."""
        report = self.report
        report.attempts, report.transfers = self.attempts, list(self._transfers.values())
        self._clear()
        return report
