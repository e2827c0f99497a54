"""Numbers, times and lists as the sentences have them."""

from __future__ import annotations

from collections.abc import Sequence

from balsam.report.quantities import moment


def many(count: int, one: str, several: str = "") -> str:
    """Return ``1 job``, ``12 jobs``."""
    return f"{count} {one if count == 1 else several or one + 's'}"


def lasting(seconds: float) -> str:
    """Return a time roughly: ``12 s``, ``5 min``, ``2 h 05 min``, ``3 d 4 h``."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24} h"


def ago(time: float, now: float) -> str:
    """Return ``5 min ago``."""
    return f"{lasting(now - time)} ago"


def until(time: float, now: float) -> str:
    """Return a time to come: ``2031-05-04 03:02:01 UTC, in 5 min``."""
    return f"{moment(time)} UTC, in {lasting(time - now)}"


def listed(items: Sequence[str], most: int = 3) -> str:
    """Return the first *most* items, and how many more there are."""
    shown = "; ".join(items[:most])
    return f"{shown}; and {len(items) - most} more" if len(items) > most else shown


def minutes_text(minutes: float) -> str:
    """Return ``5 min``, ``1.5 min``."""
    return f"{minutes:.3g} min" if minutes < 100 else f"{minutes:.0f} min"
