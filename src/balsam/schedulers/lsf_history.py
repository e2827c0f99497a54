"""What LSF remembers of requests that are over, and how it writes times.

Source: output of ``bhist -l`` of LSF 10.1 as in issue 7694 of equinor/ert, and of ``bjobs -l`` in
the manual. Lines are folded at column 80: what follows stands after 21 blanks.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from balsam.model.batch_job import BatchState
from balsam.schedulers.answers import unreadable
from balsam.schedulers.scheduler import Answer, Status

_FOLD = " " * 21
_MOMENT = re.compile(
    r"(?:[A-Z][a-z]{2} )?([A-Z][a-z]{2}) +(\d{1,2}) +(\d\d?:\d\d)(:\d\d)?(?: (\d{4}))?(?: [ELX])?"
)
_EVENT = re.compile(r"([A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d(?: \d{4})?): (.*)")
_CODE = re.compile(r"Exited with exit code (\d+)")
_SIGNAL = re.compile(r"Exited by signal (\d+)")
_REASON = re.compile(r"(TERM_\w+: [^;.]*)")


def read_moment(answer: Answer, text: str, now: float) -> float | None:
    """Return the seconds since the epoch of ``Nov 23 10:16``, or with seconds, or a year.

    Without a year it is the one that is nearest to *now*. An ``E``, ``L`` or ``X`` after it says
    that it is an estimate, or a limit. None: there is no time.
    """
    if text.strip() in ("", "-"):
        return None
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        raise unreadable(answer, text, "a time such as Nov 23 10:16")
    month, day, clock, seconds, year = match.groups()
    this = time.localtime(now).tm_year
    years = [int(year)] if year else [this - 1, this, this + 1]
    form = f"{month} {day} {clock}{seconds or ':00'}"
    found = [_seconds(f"{form} {y}") for y in years]
    known = [each for each in found if each is not None]
    if not known:
        raise unreadable(answer, text, "a time such as Nov 23 10:16")
    return min(known, key=lambda each: abs(each - now))


def _seconds(text: str) -> float | None:
    """Return the seconds since the epoch; None: there is no such day, as 29 February of 2027."""
    try:
        return time.mktime(time.strptime(text, "%b %d %H:%M:%S %Y"))
    except ValueError:
        return None


def state_of_reason(reason: str) -> BatchState:
    """Return how a job has ended that did not end well."""
    if "TERM_RUNLIMIT" in reason or "TERM_DEADLINE" in reason:
        return BatchState.TIMEOUT
    if re.search(r"TERM_(FORCE_)?(OWNER|ADMIN)|TERM_(BUCKET_KILL|PREEMPT)", reason):
        return BatchState.CANCELLED
    return BatchState.FAILED


def told_code(code: int | None, state: BatchState) -> int | None:
    """Return an exit code; LSF adds 128 to the number of the signal by which it killed."""
    if code is None or code <= 128 or state is BatchState.FAILED:
        return code
    return 128 - code


def read_history(answer: Answer, now: float) -> dict[str, Status]:
    """Return the requests of ``bhist -l`` that have ended."""
    found = {}
    for block in re.split(r"^(?=Job <\d+>)", _unfolded(answer.out), flags=re.MULTILINE):
        match = re.match(r"Job <(\d+)>", block)
        if match is None:  # what comes before the first
            continue
        events = [(each[1], each[2]) for each in map(_EVENT.match, block.splitlines()) if each]
        if not events:
            raise unreadable(answer, block.strip(), "lines with times")
        status = _status(answer, match[1], events, now)
        if status is not None:
            found[match[1]] = status
    return found


def _unfolded(text: str) -> str:
    return re.sub(rf"\n{_FOLD}", "", text)


def _status(
    answer: Answer, scheduler_id: str, events: Sequence[tuple[str, str]], now: float
) -> Status | None:
    """Return how a request ended; None: it has not."""
    started = ended = None
    code: int | None = None
    word = reason = ""
    for when, what in events:
        if what.startswith(("Starting", "Started")):
            started = read_moment(answer, when, now)
        elif what.startswith("Done successfully"):
            word, code = "DONE", 0
        elif what.startswith(("Exited", "Completed <exit>")):
            word = "EXIT"
            code = _code(what) if _code(what) is not None else code
        elif what.startswith("Signal <KILL> requested by user"):
            reason = reason or "TERM_OWNER: job killed by owner"
        else:
            continue
        if match := _REASON.search(what):
            reason = match[1]
        if word and ended is None:
            ended = read_moment(answer, when, now)
    if not word:
        return None
    state = BatchState.FINISHED if word == "DONE" else state_of_reason(reason)
    return Status(
        scheduler_id=scheduler_id,
        state=state,
        word=word,
        reason=reason if word == "EXIT" else "",
        exit_code=told_code(code, state),
        started_at=started,
        ended_at=ended,
    )


def _code(text: str) -> int | None:
    if match := _SIGNAL.search(text):
        return -int(match[1])
    match = _CODE.search(text)
    return int(match[1]) if match else None
