"""What became of a job: its value, or why there is none."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any, NamedTuple

from balsam.client.interface import Client
from balsam.config import user_name
from balsam.errors import DependencyFailed, JobFailed, RemoteError, UntrustedResult
from balsam.model.query import Filter, Query, parse
from balsam.model.states import END_STATES, State
from balsam.model.wire import Attempt, Outcome

#: How much of a failed job's output its error has.
TAIL_BYTES, TAIL_LINES = 4096, 20
#: How far up a failure is followed to the job where it began.
MOST_GENERATIONS = 100


class Ending(NamedTuple):
    """How a job ended."""

    state: State
    attempt: Attempt | None = None  #: the last one

    @property
    def result(self) -> str:
        """What the function returned or raised, as it was written; '' for nothing."""
        return self.attempt.result if self.attempt else ""


class RemoteTraceback(Exception):
    """The cause of an exception of a function: where it was raised, there."""

    def __init__(self, traceback: str) -> None:
        super().__init__(traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return f'\n"""\n{self.traceback}"""'


def endings(client: Client, ended: dict[int, State], size: int = 500) -> dict[int, Ending]:
    """Return how the jobs *ended* did, by *size* jobs a query."""
    numbers = sorted(ended)
    last: dict[int, Attempt] = {}
    for start in range(0, len(numbers), size):
        for attempt in client.attempts(numbers[start : start + size]):
            if attempt.outcome is not Outcome.REFUSED:
                last[attempt.job] = attempt
    return {number: Ending(state, last.get(number)) for number, state in ended.items()}


def value_of(client: Client, number: int, ending: Ending, trusted: bool) -> Any:
    """Return what the function of a job that ended well returned; None when it is no function.

    Raises
    ------
    UntrustedResult
        It is a pickle of another user's job.
    RemoteError
        It cannot be rebuilt here.
    """
    kind, text = ending.result[:1], ending.result[1:]
    match kind:
        case "":
            return None
        case "J":
            return json.loads(text)
        case "P":
            return _unpickled(number, base64.b64decode(text), trusted)
        case "F":
            return _unpickled(number, _read(client, number, text), trusted)
    raise RemoteError(f"the result of job {number} is written as {kind!r}, which is not known")


def _read(client: Client, number: int, place: str) -> bytes:
    try:
        return (client.path / place).read_bytes()
    except OSError as error:
        raise RemoteError(
            f"the result of job {number} is in {client.path / place}, which cannot be read:"
            f" {error.strerror}"
        ) from error


def _unpickled(number: int, data: bytes, trusted: bool) -> Any:
    if not trusted:
        raise UntrustedResult(
            f"the result of job {number} is a pickle, and the job another user's: to load it would"
            " run what they put there; if you trust them, use attach(…, any_owner=True)"
        )
    try:
        return pickle.loads(data)
    except Exception as error:  # whatever the classes in it raise
        raise RemoteError(
            f"the result of job {number} cannot be loaded here: {type(error).__name__}: {error}"
        ) from error


def failure_of(client: Client, number: int, ending: Ending, trusted: bool) -> BaseException | None:
    """Return why a job has no value; None when it has one."""
    if ending.result[:1] == "E":
        return _raised(number, ending.result[1:], trusted)
    if ending.state is State.JOB_FINISHED:
        return None
    reason = _reason(client, number)
    if ending.attempt is None and (root := _first_failed(client, number)):
        error = DependencyFailed(f"job {number} did not run: {reason}")
        error.__cause__ = _failure_of_other(client, root)
        return error
    told = _tail(client.path, ending.attempt)
    words = f"job {number} ended as {ending.state}: {reason or _how(ending.attempt)}"
    return JobFailed(f"{words}\n{told}" if told else words)


def _how(attempt: Attempt | None) -> str:
    if attempt is None:
        return "it did not run"
    return f"ended by {attempt.signal}" if attempt.signal else f"exit code {attempt.exit_code}"


def _raised(number: int, text: str, trusted: bool) -> BaseException:
    """Return the exception in *text*, caused by its traceback there."""
    kind, message, traceback, pickled = json.loads(text)
    error: BaseException | None = None
    if pickled and trusted:
        try:
            error = pickle.loads(base64.b64decode(pickled))
        except Exception:  # noqa: BLE001 - whatever its author's code raises: it is told as text
            error = None
    # SystemExit and its like are about that process, and not to end this one.
    if not isinstance(error, Exception):
        error = RemoteError(f"job {number} raised {kind}: {message}")
    error.__cause__ = RemoteTraceback(traceback)
    return error


def _reason(client: Client, number: int) -> str:
    """Return what the job's last event says."""
    conditions = parse({"job": number, "to_state__in": [str(s) for s in END_STATES]}, "events")
    events = client.events(Query(filters=conditions, order=("-id",), limit=1))
    return events[0].message if events else ""


def _first_failed(client: Client, number: int) -> int | None:
    """Return the job whose failure is why *number* did not run: it ran, or was killed."""
    first = None
    for _ in range(MOST_GENERATIONS):
        parents = [p for p, child, _ in client.dependencies([number]) if child == number]
        failed = Filter("state", (), "in", [str(State.FAILED), str(State.USER_KILLED)])
        filters = Filter("id", (), "in", parents), failed
        found = client.jobs(Query(filters=filters, limit=1), ["attempt"]) if parents else []
        if not found:
            break
        first = number = found[0].id or 0
        if found[0].attempt:
            break
    return first


def _failure_of_other(client: Client, number: int) -> BaseException | None:
    """Return why a job failed that is perhaps not this user's."""
    jobs = client.jobs(Query().where(id=number), ["state", "owner", "name"])
    if not jobs:
        return None
    if jobs[0].state is State.USER_KILLED:
        return JobFailed(f"job {number} ({jobs[0].name}) was killed")
    ending = endings(client, {number: jobs[0].state})[number]
    return failure_of(client, number, ending, jobs[0].owner == user_name())


def _tail(site: Path, attempt: Attempt | None) -> str:
    """Return the last lines of what *attempt* wrote."""
    if attempt is None or not attempt.output_file:
        return ""
    try:
        with (site / attempt.output_file).open("rb") as file:
            size = file.seek(0, 2) - attempt.output_offset
            size = size if attempt.output_size is None else attempt.output_size
            kept = max(0, min(size, TAIL_BYTES))
            file.seek(attempt.output_offset + size - kept)
            lines = file.read(kept).decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-TAIL_LINES:])
