"""Distribution of run times in constant memory: a histogram with logarithmic bins."""

from __future__ import annotations

from math import ceil, exp, floor, log

#: Ratio of the ends of one bin: quantiles are right to about 2.5 %.
_RATIO = 1.05
_SHORTEST = 1e-6


class Durations:
    """Counts durations in seconds."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.longest = 0.0
        self._bins: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        index = floor(log(max(seconds, _SHORTEST)) / log(_RATIO))
        self._bins[index] = self._bins.get(index, 0) + 1

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """Return the duration that *share* (0 to 1) of those counted do not exceed."""
        wanted = max(1, ceil(share * self.count))
        for index in sorted(self._bins):
            wanted -= self._bins[index]
            if wanted <= 0:
                return min(exp((index + 0.5) * log(_RATIO)), self.longest)
        return 0.0
