"""`local`: this machine as a batch system: requests wait, run one at a time, end at their walltime.

Its commands are our own (`local_queue.py`), and nothing has to be installed or started. They write
one JSON object a line, and ``{"end": true}`` after the last.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from balsam.errors import SchedulerAway, SchedulerError, SchedulerRefused, UnreadableAnswer
from balsam.model.batch_job import BatchState
from balsam.schedulers.local_queue import AWAY, REFUSED
from balsam.schedulers.scheduler import Answer, Queue, Run, Status, Submission, Window

_PROGRAM = (sys.executable, "-P", "-m", "balsam.schedulers.local_queue")


class _Id(msgspec.Struct):
    id: str


class _Request(msgspec.Struct):
    id: str
    state: str
    reason: str
    queue: str
    nodes: str
    exit_code: int | None
    starts_at: float | None
    started_at: float | None
    ended_at: float | None


class _Queue(msgspec.Struct):
    name: str
    is_default: bool
    is_open: bool
    max_minutes: float | None
    max_queued: int | None
    cores: int
    gpus: int
    memory_mib: int


class _Window(msgspec.Struct):
    queue: str
    minutes: float | None


Line = TypeVar("Line")


class Local:
    """The adapter.

    It has no directives: its submit command is told all. The project is not looked at.

    Parameters
    ----------
    program
        The words that run its commands.
    """

    name = "local"

    def __init__(self, program: Sequence[str] = _PROGRAM) -> None:
        self._program = tuple(program)

    def is_here(self, run: Run) -> bool:
        return True

    def directives(self, submission: Submission) -> list[str]:
        return []

    def submit(self, run: Run, submission: Submission) -> str:
        words = [
            f"--name={submission.name}",
            f"--script={submission.script}",
            f"--output={submission.output}",
            f"--directory={submission.directory}",
            f"--nodes={submission.num_nodes}",
            f"--minutes={submission.minutes}",
            f"--queue={submission.queue}",
            *submission.flags,
        ]
        answer = self._ask(run, "submit", words)
        lines = _read(answer, _Id)
        if len(lines) != 1:
            raise UnreadableAnswer(f"'local' gave {len(lines)} ids for one request: {answer.out!r}")
        return lines[0].id

    def find(self, run: Run, name: str) -> str | None:
        found = _read(self._ask(run, "find", [f"--name={name}"]), _Id)
        return found[0].id if found else None

    def status(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        return self._look(run, "status", ids)

    def history(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        return self._look(run, "history", ids)

    def _look(self, run: Run, verb: str, ids: Sequence[str]) -> dict[str, Status]:
        if not ids:
            return {}
        lines = _read(self._ask(run, verb, ["--", *ids]), _Request)
        return {line.id: _status(line) for line in lines if line.id in ids}

    def cancel(self, run: Run, ids: Sequence[str]) -> None:
        if ids:
            _read(self._ask(run, "cancel", ["--", *ids]), _Id)

    def queues(self, run: Run) -> list[Queue]:
        return [
            Queue(
                name=line.name,
                is_default=line.is_default,
                is_open=line.is_open,
                comment="" if line.is_open else "is_open is false in queues.toml",
                min_nodes=1,
                max_nodes=1,
                max_minutes=line.max_minutes,
                max_queued=line.max_queued,
                nodes=1,
                cores_per_node=line.cores,
                gpus_per_node=line.gpus,
                memory_mib=line.memory_mib,
            )
            for line in _read(self._ask(run, "queues"), _Queue)
        ]

    def windows(self, run: Run) -> list[Window]:
        lines = _read(self._ask(run, "windows"), _Window)
        return [Window(queue=each.queue, num_nodes=1, minutes=each.minutes) for each in lines]

    def _ask(self, run: Run, verb: str, words: Sequence[str] = ()) -> Answer:
        answer = run([*self._program, verb, *words])
        if answer.code == REFUSED:
            raise SchedulerRefused(f"'local' refused this: {answer.complaint}")
        if answer.code == AWAY or answer.code < 0:
            raise SchedulerAway(f"'local' cannot do this now: {answer.complaint}")
        if answer.code:
            raise SchedulerError(f"'local' failed: {answer.complaint}")
        return answer


def _read(answer: Answer, kind: type[Line]) -> list[Line]:
    """Return its lines; what comes before the first object is not from us.

    Raises
    ------
    UnreadableAnswer
        A line is not what it should be, or the last is missing.
    """
    lines = answer.out.splitlines()
    while lines and not lines[0].startswith("{"):
        lines.pop(0)
    if not lines or lines[-1] != '{"end":true}':
        what = f"ends with the line {lines[-1]!r}" if lines else f"is {answer.out!r}"
        raise UnreadableAnswer(f"the answer of 'local' has no end; it {what}")
    return [_line(line, kind) for line in lines[:-1]]


def _line(line: str, kind: type[Line]) -> Line:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError as error:
        raise UnreadableAnswer(f"'local' wrote the line {line!r}: {error}") from error


def _status(line: _Request) -> Status:
    known = line.state in {str(state) for state in BatchState}
    return Status(
        scheduler_id=line.id,
        state=BatchState(line.state) if known else BatchState.UNKNOWN,
        word=line.state,
        reason=line.reason,
        queue=line.queue,
        nodes=line.nodes,
        exit_code=line.exit_code,
        starts_at=line.starts_at,
        started_at=line.started_at,
        ended_at=line.ended_at,
    )
