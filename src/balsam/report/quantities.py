"""Numbers as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

_NOTHING = "–"  # noqa: RUF001 (an en dash stands for "no value" in tables)


def duration(seconds: float | None) -> str:
    """Return *seconds* in at most two units: ``2 h 05 min``, ``12.3 s``, ``45 ms``."""
    if seconds is None:
        return _NOTHING
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02} h"


def count(number: float) -> str:
    """Return *number* with its thousands apart."""
    return f"{number:,.0f}".replace(",", "\u202f")


def share(part: float | None) -> str:
    """Return a share of 1 as percent."""
    return _NOTHING if part is None else f"{100 * part:.1f} %"


def rate(per_second: float | None) -> str:
    """Return a rate of jobs in the unit that gives a readable number."""
    if per_second is None:
        return _NOTHING
    for factor, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_second * factor >= 1 or unit == "h":
            return f"{per_second * factor:.3g} jobs/{unit}"
    raise AssertionError("the last unit takes any rate")


def core_time(core_seconds: float) -> str:
    """Return core-seconds, as core-minutes or core-hours where there are many."""
    for size, unit in ((3600, "h"), (60, "min")):
        if core_seconds >= size:
            return f"{core_seconds / size:,.1f} core-{unit}".replace(",", "\u202f")
    return f"{core_seconds:.1f} core-s"


def moment(seconds: float | None) -> str:
    """Return a time since the epoch as UTC, to the second."""
    if seconds is None:
        return _NOTHING
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
