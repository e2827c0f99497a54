"""How long runs take: learned from those that ended well, for each app and number of ranks.

Means and squares are kept so that parts can be joined in any order without loss of digits
(Chan, Golub and LeVeque, 'Updating formulae and a pairwise algorithm for computing sample
variances', 1979): the store joins what each report brings with what it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum, isfinite, sqrt

import msgspec

#: Runs that are too few to tell how much they vary.
FEWEST = 3
#: `RunTime.longest` is so many deviations above the mean …
DEVIATIONS = 3.0
#: … and at least this many times the mean.
MARGIN = 1.1


class RunTime(msgspec.Struct, frozen=True, kw_only=True):
    """How long the runs of an app on a number of ranks took, of those that ended well."""

    application: str
    ranks: int  #: num_nodes * ranks_per_node
    count: int  #: runs
    mean_seconds: float
    deviation: float = 0.0  #: standard deviation in seconds; 0 for one run

    @property
    def expected(self) -> float:
        """Seconds that a run takes on average."""
        return self.mean_seconds

    @property
    def longest(self) -> float | None:
        """Seconds that hardly any run exceeds; None when there were too few runs to tell.

        Three standard deviations above the mean, at least a tenth above it. Of the runs of any
        distribution with this mean and deviation at most a tenth is longer (Cantelli's
        inequality); of a normal one, about a thousandth.
        """
        if self.count < FEWEST:
            return None
        return max(self.mean_seconds + DEVIATIONS * self.deviation, MARGIN * self.mean_seconds)

    def needed(self, whole: float) -> float:
        """Return the seconds that must be left when a run starts; 0 when too little is known.

        Parameters
        ----------
        whole
            The seconds that a launcher has from its start. If the longest runs need more, it
            could never start one: then what they take on average must be left, for most
            end in time, and the others go on in the next launcher.
        """
        longest = self.longest
        if longest is None:
            return 0.0
        return longest if longest <= whole else self.expected


class Moments(msgspec.Struct, frozen=True):
    """What is kept of run times: how many, their mean, the sum of squared distances from it."""

    count: int
    mean_seconds: float
    m2: float

    @property
    def deviation(self) -> float:
        """The standard deviation of the sample; 0 for one."""
        return sqrt(self.m2 / (self.count - 1)) if self.count > 1 else 0.0


def moments(seconds: Iterable[float]) -> Moments | None:
    """Return what is to be kept of run times; None when there is none.

    What no clock can have measured (negative, infinite) is left out.
    """
    times = [each for each in seconds if isfinite(each) and each >= 0]
    if not times:
        return None
    mean = fsum(times) / len(times)
    return Moments(len(times), mean, fsum((each - mean) ** 2 for each in times))


def joined(one: Moments, other: Moments) -> Moments:
    """Return what is to be kept of the run times of both."""
    count = one.count + other.count
    apart = other.mean_seconds - one.mean_seconds
    mean = one.mean_seconds + apart * other.count / count
    m2 = one.m2 + other.m2 + apart * apart * one.count * other.count / count
    return Moments(count, mean, m2)
