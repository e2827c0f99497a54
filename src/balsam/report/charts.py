"""The geometry of the report's plots; the page's template draws them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from balsam.report.axes import Tick, amount_ticks, time_ticks
from balsam.report.quantities import count, duration, share
from balsam.report.records import Course

WIDTH, HEIGHT = 900, 280
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 12, 44


class Curve(NamedTuple):
    """One line or area; `style` names its colour in the page's style sheet."""

    label: str
    style: str
    path: str
    filled: bool


class Strip(NamedTuple):
    """A part of the time axis with the text that shows when the pointer is over it."""

    x: float
    width: float
    text: str


class Chart(NamedTuple):
    """Everything to draw, in pixels of a WIDTH x HEIGHT canvas."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    curves: list[Curve]
    strips: list[Strip]


class Frame:
    """Maps seconds and amounts to pixels."""

    def __init__(self, span: float, highest: float) -> None:
        ticks, self.unit = time_ticks(span)
        amounts = amount_ticks(highest)
        self._x_scale = (WIDTH - LEFT - RIGHT) / (span or 1.0)
        self._y_scale = (HEIGHT - TOP - BOTTOM) / amounts[-1].value
        self.x_ticks = [Tick(self.x(t.value), t.label) for t in ticks]
        self.y_ticks = [Tick(self.y(t.value), t.label) for t in amounts]

    def x(self, seconds: float) -> float:
        return round(LEFT + seconds * self._x_scale, 1)

    def y(self, amount: float) -> float:
        return round(HEIGHT - BOTTOM - amount * self._y_scale, 1)

    def line(self, seconds: Sequence[float], values: Sequence[float]) -> str:
        """Return the path through (0, 0) and the points."""
        points = [(0.0, 0.0), *zip(seconds, values, strict=True)]
        return "M" + "L".join(self._point(*point) for point in points)

    def steps(self, edges: Sequence[float], values: Sequence[float]) -> str:
        """Return the path that is at each value from one edge to the next."""
        moves = [f"M{self.x(edges[0])} {self.y(values[0])}"]
        for (_, end), value in zip(pairwise(edges), values, strict=True):
            moves.append(f"V{self.y(value)}H{self.x(end)}")
        return "".join(moves)

    def area(self, edges: Sequence[float], values: Sequence[float]) -> str:
        """Return `steps` closed along the time axis."""
        floor = self.y(0)
        return f"{self.steps(edges, values)}V{floor}H{self.x(edges[0])}Z"

    def band(self, seconds: Sequence[float], low: Sequence[float], high: Sequence[float]) -> str:
        """Return the area between two lines, which begin level."""
        times = [0.0, *seconds]
        there = [self._point(*p) for p in zip(times, [high[0], *high], strict=True)]
        back = [self._point(*p) for p in zip(times, [low[0], *low], strict=True)]
        return "M" + "L".join(there + back[::-1]) + "Z"

    def _point(self, seconds: float, amount: float) -> str:
        return f"{self.x(seconds)} {self.y(amount)}"

    def strips(self, edges: Sequence[float], texts: Sequence[str]) -> list[Strip]:
        return [
            Strip(self.x(start), round(self.x(end) - self.x(start), 1), text)
            for (start, end), text in zip(pairwise(edges), texts, strict=True)
        ]


def _edges(course: Course) -> list[float]:
    return [0.0, *course.seconds]


def _x_label(frame: Frame) -> str:
    return f"time since the start [{frame.unit}]"


def utilization_chart(course: Course) -> Chart:
    """Plot the cores that ran jobs under those that launchers offered."""
    edges = _edges(course)
    frame = Frame(edges[-1], max([*course.offered_cores, *course.busy_cores]))
    texts = [
        f"{duration(second)}: {busy:.3g} of {offered:.3g} cores busy"
        f" ({share(busy / offered) if offered > 0 else 'no launcher'}), {running:.3g} jobs running"
        for second, busy, offered, running in zip(
            course.seconds,
            course.busy_cores,
            course.offered_cores,
            course.running_jobs,
            strict=True,
        )
    ]
    return Chart(
        "Utilization",
        _x_label(frame),
        "cores",
        frame.x_ticks,
        frame.y_ticks,
        [
            Curve("busy", "running", frame.area(edges, course.busy_cores), True),
            Curve(
                "offered by launchers", "offered", frame.steps(edges, course.offered_cores), False
            ),
        ],
        frame.strips(edges, texts),
    )


def throughput_chart(course: Course) -> Chart:
    """Plot how many jobs had finished, and how many runs had failed, by when."""
    finished, failed = course.phases["finished"], course.failed_runs
    frame = Frame(course.seconds[-1], max([*finished, *failed]))
    curves = [Curve("finished jobs", "finished", frame.line(course.seconds, finished), False)]
    if any(failed):
        curves.append(Curve("failed runs", "failed", frame.line(course.seconds, failed), False))
    texts = []
    for second, done, bad, before in zip(
        course.seconds, finished, failed, [0, *finished], strict=False
    ):
        rate = (done - before) / course.width_seconds
        text = f"{duration(second)}: {count(done)} jobs finished ({rate:.3g} a second)"
        texts.append(text + (f", {count(bad)} runs failed" if bad else ""))
    return Chart(
        "Throughput",
        _x_label(frame),
        "jobs, cumulative",
        frame.x_ticks,
        frame.y_ticks,
        curves,
        frame.strips(_edges(course), texts),
    )


#: From the bottom of the stack to its top.
_STACK = (
    ("finished", "finished"),
    ("failed", "failed or killed"),
    ("ending", "ended, hooks to run"),
    ("running", "running"),
    ("ready", "ready"),
    ("waiting", "waiting for parents"),
)


def phases_chart(course: Course) -> Chart:
    """Plot in which phase how many jobs were, stacked."""
    totals = [0] * len(course.seconds)
    bands: list[tuple[str, str, list[int], list[int]]] = []
    for phase, label in _STACK:
        values = course.phases[phase]
        if any(values):
            above = [low + value for low, value in zip(totals, values, strict=True)]
            bands.append((phase, label, totals, above))
            totals = above
    frame = Frame(course.seconds[-1], max(totals))
    texts = []
    for index, second in enumerate(course.seconds):
        parts = [f"{count(high[index] - low[index])} {name}" for _, name, low, high in bands]
        texts.append(f"{duration(second)}: " + ", ".join(parts))
    return Chart(
        "Jobs by phase",
        _x_label(frame),
        "jobs",
        frame.x_ticks,
        frame.y_ticks,
        [
            Curve(label, phase, frame.band(course.seconds, low, high), True)
            for phase, label, low, high in bands
        ],
        frame.strips(_edges(course), texts),
    )
