"""The last job: pressure and energy of the melt over the temperature, as a table and as SVG.

Exit code 1, so that the job fails, when a point is off the known equation of state by more than
its error and the limits of the comparison explain.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import NamedTuple

import equation_of_state

from balsam.api import Job

#: What is not chance: 500 atoms instead of infinitely many, a liquid taken to be uniform beyond
#: the cutoff, and the fit that the equation of state is.
ACCURACY = {"pressure": 0.04, "energy": 0.02}
MOST_ERRORS = 4.0


class Point(NamedTuple):
    """One measured value with its standard error, and what the equation of state gives."""

    temperature: float
    value: float
    error: float
    expected: float

    @property
    def deviation(self) -> float:
        return self.value - self.expected


class Panel(NamedTuple):
    """One of the plots."""

    quantity: str
    label: str
    law: Callable[[float, float], float]


PANELS = (
    Panel("pressure", "pressure  P σ³/ε", equation_of_state.pressure),
    Panel("energy", "potential energy per atom  U/Nε", equation_of_state.energy),
)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 380, 70, 20, 40, 52


def points(panel: Panel, found: Sequence[dict[str, float]]) -> list[Point]:
    """Return what was found for a panel, in order of temperature."""
    name = panel.quantity
    measured = [
        Point(
            one["temperature"],
            one[name],
            one[f"{name}_error"],
            panel.law(one["temperature"], one["density"]),
        )
        for one in found
    ]
    return sorted(measured)


def is_off(point: Point, quantity: str) -> bool:
    """Tell whether a deviation is more than chance and the limits of the comparison explain."""
    return not abs(point.deviation) <= MOST_ERRORS * point.error + ACCURACY[quantity]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from *low* to *high*."""
    raw = (high - low) / most
    power = 10.0 ** floor(log10(raw))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= raw)
    return [n * step for n in range(ceil(low / step), floor(high / step) + 1)]


def draw(panel: Panel, found: Sequence[Point], density: float, top: float) -> list[str]:
    """Return one panel as SVG elements, *top* pixels below the edge."""
    margin = 0.1 * (found[-1].temperature - found[0].temperature) or 0.1
    left, right = found[0].temperature - margin, found[-1].temperature + margin
    line = [left + (right - left) * n / 100 for n in range(101)]
    law = [panel.law(temperature, density) for temperature in line]
    low = min(*law, *(point.value - point.error for point in found))
    high = max(*law, *(point.value + point.error for point in found))
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)

    def x(temperature: float) -> str:
        share = (temperature - left) / (right - left)
        return f"{LEFT + share * (WIDTH - LEFT - RIGHT):.1f}"

    def y(value: float) -> str:
        share = (high - value) / (high - low)
        return f"{top + TOP + share * (HEIGHT - TOP - BOTTOM):.1f}"

    bottom = y(low)
    parts = [f'<text x="{LEFT}" y="{top + TOP - 12}" class="title">{panel.label}</text>']
    for tick in ticks(left, right):
        parts.append(f'<path d="M{x(tick)} {y(low)}V{y(high)}" class="grid"/>')
        parts.append(f'<text x="{x(tick)}" y="{float(bottom) + 18}" class="x">{tick:g}</text>')
    for tick in ticks(low, high):
        parts.append(f'<path d="M{x(left)} {y(tick)}H{x(right)}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(y(tick)) + 4}" class="y">{tick:.6g}</text>')
    curve = "L".join(f"{x(t)} {y(value)}" for t, value in zip(line, law, strict=True))
    parts.append(f'<path d="M{curve}" class="law"/>')
    for point in found:
        here = x(point.temperature)
        bar = f"M{here} {y(point.value - point.error)}V{y(point.value + point.error)}"
        told = f"T = {point.temperature:g}: {point.value:.4f} ± {point.error:.4f}"
        parts.append(f'<path d="{bar}" class="bar"/>')
        parts.append(
            f'<circle cx="{here}" cy="{y(point.value)}" r="4"><title>{told}</title></circle>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*parts, f'<text x="{middle}" y="{float(bottom) + 40}" class="x">T kB/ε</text>']


STYLE = """
text { font: 13px sans-serif } .title { font-weight: bold }
.x { text-anchor: middle } .y { text-anchor: end }
.grid { stroke: #ddd } .law { stroke: #2a7; fill: none; stroke-width: 2 }
.bar { stroke: #225; stroke-width: 2 } circle { fill: #225 }
"""


def picture(panels: Sequence[tuple[Panel, Sequence[Point]]], density: float) -> str:
    """Return the panels, one below the other, as an SVG document."""
    height = HEIGHT * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, (panel, found) in enumerate(panels):
        parts += draw(panel, found, density, number * HEIGHT)
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    found = [json.loads(file.read_text()) for file in sorted(Path().glob("T*.json"))]
    drawn = [(panel, points(panel, found)) for panel in PANELS]
    density = found[0]["density"]
    Path("equation_of_state.svg").write_text(picture(drawn, density))
    off = []
    print(f"density {density:g}")
    for panel, measured in drawn:
        print(f"\n{panel.quantity:>8}  measured    error  equation of state  deviation")
        for point in measured:
            wrong = is_off(point, panel.quantity)
            print(
                f"T = {point.temperature:4.2f}  {point.value:8.4f} {point.error:8.4f}"
                f"  {point.expected:17.4f}  {point.deviation:+9.4f}{'  OFF' if wrong else ''}"
            )
            if wrong:
                off.append(f"{panel.quantity} at T = {point.temperature:g}")
    if job := Job.current():
        job.data.update(points=found, off=off)
        job.save()
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
