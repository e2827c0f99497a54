"""The log that Cobalt keeps of a job, and how it writes times.

Sources: cqm.py and qsub.py of Cobalt 1.0; lines that buildtest and radical.saga quote::

    Thu Nov 05 17:29:30 2020 +0000 (UTC) Info: task completed normally with an exit code of 0; …
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from balsam.errors import UnreadableAnswer
from balsam.model.batch_job import BatchState
from balsam.schedulers.scheduler import Status

_MOMENT = r"[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4} [+-]\d{4}"
_FORM = "%a %b %d %H:%M:%S %Y %z"
_LINE = re.compile(rf"({_MOMENT}) \([^)]*\) *(.*)")
_STARTED = re.compile(r"COBALT_STARTTIME\D{0,3}(\d{9,})")
_CODE = re.compile(r"task completed normally with an exit code of (-?\d+|None)")
_TIMEOUT = re.compile(r"maximum execution time exceeded")
_DELETED = re.compile(r"user delete (requested|with signal)")


def read_moment(text: str) -> float | None:
    """Return the seconds since the epoch of ``Thu Nov 05 17:29:30 2020 +0000 (UTC)``.

    None: ``N/A`` and other words for no time.

    Raises
    ------
    UnreadableAnswer
        It is neither.
    """
    word = text.strip()
    if word in ("N/A", "None", "-", "-1", ""):
        return None
    match = re.match(_MOMENT, word)
    try:
        return datetime.strptime(match[0] if match else "", _FORM).timestamp()
    except (ValueError, OverflowError) as error:
        raise UnreadableAnswer(
            f"{text!r} is no time, such as Thu Nov 05 17:29:30 2020 +0000 (UTC)"
        ) from error


def read_log(path: str, scheduler_id: str) -> Status | None:
    """Return how a request ended that Cobalt does not know any more; None: its log does not tell.

    The log of another request at the same path does not count.
    """
    try:
        text = Path(path).read_text(errors="replace")
    except OSError:
        return None
    first = re.findall(r"^Jobid: *(\d+)", text, re.MULTILINE)
    if first and first[-1] != scheduler_id:
        return None
    dated = [match.groups() for match in map(_LINE.match, text.splitlines()) if match]
    state, code, reason = BatchState.UNKNOWN, None, ""
    for _, what in dated:
        if match := _CODE.search(what):
            code = None if match[1] == "None" else int(match[1])
            if state is BatchState.UNKNOWN:  # else something has ended it before
                state = BatchState.FAILED if code != 0 else BatchState.FINISHED
        elif _TIMEOUT.search(what):
            state, reason = BatchState.TIMEOUT, _plain(what)
        elif _DELETED.search(what) and state is BatchState.UNKNOWN:
            state, reason = BatchState.CANCELLED, _plain(what)
    if state is BatchState.UNKNOWN:
        return None
    started = _STARTED.search(text)
    return Status(
        scheduler_id=scheduler_id,
        state=state,
        word="",
        reason=reason,
        exit_code=code,
        started_at=float(started[1]) if started else None,
        ended_at=read_moment(dated[-1][0]),
    )


def _plain(text: str) -> str:
    return text.removeprefix("Info:").strip()
