"""Times and durations as batch systems write and take them."""

from __future__ import annotations

import math
import re
import time

from balsam.errors import UnreadableAnswer

_NO_LIMIT = {"unlimited", "infinite", "infinity", "none", "partition_limit", "not_set"}
_NOT_KNOWN = {"unknown", "undefined", "n/a", "(null)", "-", "--", "-/-"}
_NONE = _NO_LIMIT | _NOT_KNOWN
_DURATION = re.compile(r"(?:(\d+)-)?(\d*(?::\d*){0,2})(?:\.\d+)?")
#: The formats of moments in local time, as far as their sources tell: Slurm, ctime (PBS, qacct of
#: Grid Engine 8.1), qacct of Univa Grid Engine 8.6.
_MOMENTS = ("%Y-%m-%dT%H:%M:%S", "%a %b %d %H:%M:%S %Y", "%m/%d/%Y %H:%M:%S")


def duration(text: str, unit: int = 1) -> float | None:
    """Return the seconds of ``D-HH:MM:SS``, ``HH:MM:SS``, ``D-HH``, …; None: no limit.

    Parameters
    ----------
    unit
        Seconds that the last of one or two numbers stands for. With 1, ``90`` are seconds and
        ``10:00`` ten minutes (Slurm's output, PBS, Grid Engine); with 60, ``90`` are minutes and
        ``10:00`` ten hours (LSF, Cobalt).

    Raises
    ------
    UnreadableAnswer
        It is neither a duration nor one of the words for none.
    """
    word = text.strip()
    if word.lower() in _NONE:
        return None
    match = _DURATION.fullmatch(word)
    if match is None or not re.search(r"\d", match[2]):
        raise UnreadableAnswer(f"{text!r} is no duration, such as 01:30:00 or 1-12:00:00")
    days, rest = match.groups()
    numbers = [int(number or 0) for number in rest.split(":")]
    if days is not None or len(numbers) == 3:
        units = [3600, 60, 1]
    else:
        units = [60 * unit, unit][-len(numbers) :]
    seconds = sum(number * each for number, each in zip(numbers, units, strict=False))
    return float(int(days or 0) * 86400 + seconds)


def walltime(minutes: float) -> str:
    """Return ``HH:MM:SS`` of *minutes*, rounded up to whole seconds; hours may be above 24."""
    seconds = math.ceil(minutes * 60)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def moment(text: str) -> float | None:
    """Return the seconds since the epoch of a local time, or of seconds; None: not known.

    Raises
    ------
    UnreadableAnswer
        It is neither a time nor one of the words for none.
    """
    word = " ".join(text.split())
    if word.lower() in _NONE or word == "0":
        return None
    try:
        return float(word) if re.fullmatch(r"\d+(\.\d+)?", word) else _local(word)
    except ValueError:
        raise UnreadableAnswer(f"{text!r} is no time, such as 2026-11-23T01:44:37") from None


def _local(word: str) -> float:
    whole = re.sub(r"(?<=:\d\d)\.\d+", "", word)
    for form in _MOMENTS:
        try:
            return time.mktime(time.strptime(whole, form))
        except (ValueError, OverflowError):
            continue
    raise ValueError(word)
