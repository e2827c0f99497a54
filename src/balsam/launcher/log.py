"""The launcher's log: a line for each start and end, in the format that 0.x scripts read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from balsam.errors import StoreFull
from balsam.model.states import State
from balsam.model.wire import Report

_WORDS = {
    State.RUNNING: "WORKER_START",
    State.RUN_DONE: "WORKER_DONE",
    State.RUN_ERROR: "WORKER_ERROR",
    State.RUN_TIMEOUT: "WORKER_TIMEOUT",
}


class Log:
    """Appends to the file *path*; *now* gives the time of lines, in seconds since the epoch.

    Lines that cannot be written raise `StoreFull`.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self.file = open(path, "a", buffering=1 << 16, encoding="utf-8")  # noqa: SIM115
        self._now = now

    def line(self, text: str) -> None:
        self._write([_line(self._now(), text)])

    def moves(self, report: Report, labels: Mapping[int, str]) -> None:
        """Write what runs started and ended; *labels* is what jobs are called."""
        self._write(
            _line(move.time, f"{labels.get(move.job, '')} {_WORDS[move.to_state]}")
            for move in report.moves
            if move.to_state in _WORDS
        )

    def _write(self, lines: Iterable[str]) -> None:
        try:
            self.file.writelines(lines)
            self.file.flush()
        except OSError as error:
            raise StoreFull(f"cannot write the log {self.file.name}: {error.strerror}") from error

    def close(self) -> None:
        try:
            self.file.close()
        except OSError:
            pass  # what was left could not be written, which was told then


def _line(time: float, text: str) -> str:
    return f"{_timestamp(time)}|{os.getpid()}|INFO|launcher] {text}\n"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _timestamp(seconds: float) -> str:
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}"
