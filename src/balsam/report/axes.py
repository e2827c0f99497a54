"""Axes with round numbers."""

from __future__ import annotations

from math import ceil, floor, log10
from typing import NamedTuple

from balsam.report.quantities import count

_TIME_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_TIME_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 3600)
_HOUR_STEPS = (2, 3, 6, 12, 24)


class Tick(NamedTuple):
    """A mark on an axis."""

    value: float
    label: str


def round_step(span: float, most: int) -> float:
    """Return the least of 1, 2 or 5 times a power of ten that divides *span* *most* times."""
    raw = span / most
    power = 10.0 ** floor(log10(raw))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= raw * (1 - 1e-9))


def amount_ticks(highest: float, most: int = 5) -> list[Tick]:
    """Return ticks at whole numbers from 0 to at least *highest*."""
    step = max(1.0, round_step(max(highest, 1.0), most))
    marks = range(ceil(highest / step - 1e-9) + 1 if highest > 0 else 2)
    return [Tick(n * step, count(n * step)) for n in marks]


def time_ticks(span: float, most: int = 9) -> tuple[list[Tick], str]:
    """Return ticks from 0 to at most *span* seconds, and the unit of their labels."""
    steps = [float(n) for n in _TIME_STEPS] + [3600.0 * n for n in _HOUR_STEPS]
    if span <= 0:
        step = 1.0
    elif span < most:
        step = round_step(span, most)
    else:
        step = next((n for n in steps if span / n <= most), 0.0)
        step = step or 86400 * max(1.0, round_step(span / 86400, most))
    size, unit = next((s, u) for s, u in _TIME_UNITS if step >= s or u == "s")
    marks = range(floor(span / step + 1e-9) + 1)
    return [Tick(n * step, f"{n * step / size:g}") for n in marks], unit
