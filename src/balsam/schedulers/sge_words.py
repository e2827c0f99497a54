"""The words of Grid Engine: states of requests and of queues, and how a job ended.

Sources: qstat(1) "OUTPUT FORMATS", qacct(1), accounting(5), sge_diagnostics(5) of Grid Engine
8.1.9; what 8.1.9 wrote; the states of Univa Grid Engine 8.6 by its manual.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from balsam.model.batch_job import BatchState
from balsam.schedulers.times import duration, moment

_KNOWN = re.compile(r"[dEhNPqRrSsTtwX]+")
#: Letters for the state of a queue on a host that let no request start there.
_CLOSED = frozenset("acdosuACDESz")


def state(word: str) -> BatchState:
    """Return the state of letters such as ``qw``, ``hqw``, ``Eqw``, ``r``, ``dr``."""
    letters = set(word)
    if not _KNOWN.fullmatch(word) or not letters & set("qwrtsSTP"):
        return BatchState.UNKNOWN
    if "d" in letters:
        return BatchState.ENDING
    if "E" in letters:
        return BatchState.HELD
    if letters & set("rtsSTP") and not letters & set("qw"):
        return BatchState.RUNNING
    return BatchState.HELD if "h" in letters else BatchState.QUEUED


def takes_requests(queue_state: str) -> bool:
    """Tell whether a queue on a host, of letters such as ``au`` or ``d``, starts requests."""
    return not _CLOSED & set(queue_state)


def end_of(record: Mapping[str, str]) -> tuple[BatchState, int | None, str]:
    """Return state, exit code and reason of a record of qacct.

    A request that was killed by SIGKILL has ``failed 100``, whoever sent it: `qdel`, the user, or
    the kernel for want of memory. Univa Grid Engine tells who deleted it; of others it is said
    that it was cancelled. One that was over its memory has ``failed 37`` as one over its time.

    Raises
    ------
    ValueError
        A number is none.
    """
    failed = record["failed"]
    number, _, text = (part.strip() for part in failed.partition(":"))
    code = int(record["exit_status"].split()[0])
    exit_code = 128 - code if 128 < code < 192 else code
    why = f"{number}: {text}" if text else number
    if number == "0":
        ended = BatchState.FINISHED if code == 0 else BatchState.FAILED
        return ended, exit_code, "" if code == 0 else f"exit code {code}"
    if number == "37" or (number == "100" and _was_late(record)):
        return (BatchState.TIMEOUT if _was_late(record) else BatchState.FAILED), exit_code, why
    if record.get("deleted_by", "NONE") not in ("NONE", "undefined"):
        return BatchState.CANCELLED, exit_code, f"deleted by {record['deleted_by']}"
    if number == "100" and exit_code == -9 and "deleted_by" not in record:
        return BatchState.CANCELLED, exit_code, f"{why}, by SIGKILL"
    int(number)
    return BatchState.FAILED, None if number != "100" else exit_code, why


def _was_late(record: Mapping[str, str]) -> bool:
    """Tell whether it ran for all of the time that it had asked for, if that is told."""
    asked = re.search(r"\bh_rt=([\d:]+)", record.get("category", ""))
    if asked is None:
        return record["failed"].startswith("37")
    began, ended = moment(record["start_time"]), moment(record["end_time"])
    if began is None or ended is None:
        return False
    return ended - began >= (duration(asked[1]) or 0.0)
