"""Quantities that change in steps, kept in bins as they stream by.

Memory does not grow with the number of steps: the width of the bins doubles whenever the
times no longer fit. Averages over a bin are exact, whatever its width, because each bin
keeps the first moment of its steps beside their sum.
"""

from __future__ import annotations

from typing import Final

#: Of the first bins. A power of two: times of bins are exact in binary floating point.
FINEST_SECONDS: Final = 2.0**-6


class Timeline:
    """Several named series over one grid of bins of equal width.

    Steps may come in any order.

    Parameters
    ----------
    most_bins
        Most bins kept; a long timeline has between half as many and as many.
    origin
        Where the first bin begins, in seconds since the epoch; default: the first time that
        comes. Earlier times may come, and make more bins before it.
    """

    def __init__(self, most_bins: int = 240, origin: float | None = None) -> None:
        self._most = most_bins
        self._width = FINEST_SECONDS
        self._origin = origin
        self._first = self._last = 0
        self._latest = 0.0
        self._steps: dict[str, dict[int, list[float]]] = {}

    @property
    def width(self) -> float:
        """Seconds of one bin."""
        return self._width

    @property
    def times(self) -> list[float]:
        """Where the bins end, in seconds since the epoch, ascending.

        The last bin ends with the last step.
        """
        if self._origin is None:
            return []
        ends = [n * self._width for n in range(self._first + 1, self._last + 1)]
        return [self._origin + end for end in [*ends, self._end]]

    @property
    def start(self) -> float | None:
        """Where the first bin begins, in seconds since the epoch; None when there is none."""
        return None if self._origin is None else self._origin + self._first * self._width

    @property
    def _end(self) -> float:
        begin = self._last * self._width
        return self._latest if self._latest > begin else begin + self._width

    def step(self, series: str, time: float, change: float) -> None:
        """Let *series* change by *change* at *time* (seconds since the epoch)."""
        if self._origin is None:
            self._origin = time
        # Relative to the first time, so that the moments do not lose digits to the epoch.
        at = time - self._origin
        index = self._index(at)
        if at > self._latest:
            self._latest = at
        if not self._first <= index <= self._last:
            index = self._make_room(at)
        steps = self._steps.setdefault(series, {})
        if (cell := steps.get(index)) is None:
            steps[index] = [change, change * at]
        else:
            cell[0] += change
            cell[1] += change * at

    def interval(self, series: str, start: float, end: float, amount: float) -> None:
        """Let *series* be higher by *amount* from *start* to *end*."""
        self.step(series, start, amount)
        self.step(series, end, -amount)

    def _index(self, at: float) -> int:
        # A bin has its end but not its beginning, so that no step begins an empty last bin.
        return -int(-at // self._width) - 1 if at else 0

    def _make_room(self, at: float) -> int:
        index = self._index(at)
        self._first, self._last = min(self._first, index), max(self._last, index)
        while self._last - self._first >= self._most:
            self._width *= 2
            self._first, self._last = self._first // 2, self._last // 2
            for series, steps in self._steps.items():
                wider: dict[int, list[float]] = {}
                for old, (change, moment) in steps.items():
                    cell = wider.setdefault(old // 2, [0.0, 0.0])
                    cell[0] += change
                    cell[1] += moment
                self._steps[series] = wider
        return self._index(at)

    def averages(self, series: str) -> list[float]:
        """Return the mean of *series* over each bin."""
        level, means = 0.0, []
        steps = self._steps.get(series, {})
        if self._origin is None:
            return []
        for index in range(self._first, self._last + 1):
            begin = index * self._width
            end = begin + self._width if index < self._last else self._end
            change, moment = steps.get(index, (0.0, 0.0))
            means.append(level + (change * end - moment) / (end - begin))
            level += change
        return means

    def levels(self, series: str) -> list[float]:
        """Return the value of *series* at the end of each bin."""
        level, values = 0.0, []
        steps = self._steps.get(series, {})
        if self._origin is None:
            return []
        for index in range(self._first, self._last + 1):
            level += steps.get(index, (0.0, 0.0))[0]
            values.append(level)
        return values
