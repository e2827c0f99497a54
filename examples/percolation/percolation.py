"""Site percolation on the square lattice: simulation and finite-size scaling.

On an L x L torus, sites are occupied one after the other in random order until a cluster
wraps around it (Newman and Ziff, Phys. Rev. E 64, 016706 (2001)). One sweep gives the
number of sites n at which that happens; the sweeps together give the probability R_L(p)
that a lattice with occupation probability p wraps, for every p at once::

    R_L(p) = < P(Binomial(L^2, p) >= n) >

In an infinite system R_L(p_c) is known exactly from conformal field theory (Pinson, J. Stat.
Phys. 75, 1167 (1994)), so the p_L that solves R_L(p_L) = `WRAPPING_AT_THRESHOLD` estimates
p_c. Of all estimators in use it converges fastest, p_L - p_c ~ L^(-2 - 1/nu) = L^(-11/4)
(Newman and Ziff, Phys. Rev. Lett. 85, 4104 (2000)); mean thresholds go as L^(-3/4) only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, lgamma, log, sqrt
from random import Random
from typing import NamedTuple

#: Site percolation threshold of the square lattice (Jacobsen, J. Phys. A 48, 454003 (2015)).
LITERATURE_THRESHOLD = 0.59274605
#: Probability that an infinite torus at p_c wraps in one direction, the other, or both.
WRAPPING_AT_THRESHOLD = 0.690473725
#: Of the correction to p_L: 2 + 1/nu, with nu = 4/3.
EXPONENT = 11 / 4

#: A displacement (x, y) is kept as the one number x + ROW * y.
ROW = 1 << 16


class Estimate(NamedTuple):
    """A value with its standard error."""

    value: float
    error: float


class Extrapolation(NamedTuple):
    """The fit p_L = threshold + slope * L^(-11/4)."""

    threshold: float
    error: float
    slope: float
    chi_squared: float
    degrees_of_freedom: int


def neighbours(size: int) -> list[tuple[tuple[int, int], ...]]:
    """Return, for each site of a torus, its four neighbours with the step that leads there."""
    count = size * size
    return [
        (
            (site - 1 if site % size else site + size - 1, -1),
            (site + 1 if (site + 1) % size else site + 1 - size, 1),
            ((site - size) % count, -ROW),
            ((site + size) % count, ROW),
        )
        for site in range(count)
    ]


def wrapping_threshold(lattice: list[tuple[tuple[int, int], ...]], random: Random) -> int:
    """Occupy sites in random order; return how many it takes until a cluster wraps.

    Clusters are trees, merged by size. Each site knows its displacement from its parent:
    two ways to a site of the same cluster that differ in displacement go around the torus.
    """
    uniform = random.random
    count = left = len(lattice)
    empty = list(range(count))
    parent = [-1] * count
    size = [1] * count
    displacement = [0] * count
    while left:
        chosen = int(uniform() * left)
        left -= 1
        site = empty[chosen]
        empty[chosen] = empty[left]
        parent[site] = root = site
        position = 0  # of the site, from its root
        for neighbour, step in lattice[site]:
            above = parent[neighbour]
            if above < 0:
                continue
            other, other_position = neighbour, 0
            while above != other:
                other_position += displacement[other]
                other = above
                above = parent[other]
            gap = position + step - other_position
            if other == root:
                if gap:
                    return count - left
            elif size[other] > size[root]:
                parent[root] = other
                displacement[root] = -gap
                size[other] += size[root]
                position -= gap
                root = other
            else:
                parent[other] = root
                displacement[other] = gap
                size[root] += size[other]
    raise AssertionError("a full lattice wraps")


def sweep(size: int, realizations: int, seed: str) -> dict[int, int]:
    """Return how often a lattice of *size* first wrapped at each number of sites."""
    random = Random(seed)
    lattice = neighbours(size)
    counts: dict[int, int] = {}
    for _ in range(realizations):
        n = wrapping_threshold(lattice, random)
        counts[n] = counts.get(n, 0) + 1
    return counts


def wrapping_probability(
    counts: Mapping[int, int], size: int, p: float
) -> tuple[float, float, float]:
    """Return R_L(p), its standard error, and its derivative with respect to p."""
    sites = size * size
    first, last = min(counts), max(counts)
    total = square = slope = 0.0
    tail = _binomial_tail(sites, last + 1, p)
    probability = exp(_log_binomial(sites, last, p))
    for n in range(last, first - 1, -1):
        tail += probability
        if times := counts.get(n, 0):
            total += times * tail
            square += times * tail * tail
            slope += times * n / p * probability
        probability *= n * (1 - p) / ((sites - n + 1) * p)
    realizations = sum(counts.values())
    mean = total / realizations
    variance = max(square / realizations - mean * mean, 0.0) / max(realizations - 1, 1)
    return mean, sqrt(variance), slope / realizations


def _log_binomial(sites: int, n: int, p: float) -> float:
    ways = lgamma(sites + 1) - lgamma(n + 1) - lgamma(sites - n + 1)
    return ways + n * log(p) + (sites - n) * log(1 - p)


def _binomial_tail(sites: int, first: int, p: float) -> float:
    """Return P(Binomial(sites, p) >= first)."""
    if first > sites:
        return 0.0
    probability = exp(_log_binomial(sites, first, p))
    tail = 0.0
    for n in range(first, sites + 1):
        tail += probability
        if n > sites * p and probability < tail * 1e-17:
            break
        probability *= (sites - n) * p / ((n + 1) * (1 - p))
    return tail


def pool(histograms: Sequence[Mapping[int, int]]) -> dict[int, int]:
    """Add up what several runs of `sweep` at one size found."""
    counts: dict[int, int] = {}
    for histogram in histograms:
        for n, times in histogram.items():
            counts[n] = counts.get(n, 0) + times
    return counts


def solve(counts: Mapping[int, int], size: int) -> Estimate:
    """Return the p_L at which the lattice wraps with the probability it has at p_c.

    The standard error is that of R_L at p_L, divided by the slope.
    """
    low, high = 0.3, 0.9
    p = LITERATURE_THRESHOLD
    while True:
        probability, error, slope = wrapping_probability(counts, size, p)
        if probability < WRAPPING_AT_THRESHOLD:
            low = p
        else:
            high = p
        step = (WRAPPING_AT_THRESHOLD - probability) / slope if slope else 0.0
        following = p + step
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - p) < 1e-12:
            return Estimate(following, error / slope)
        p = following


def extrapolate(estimates: Mapping[int, Estimate]) -> Extrapolation:
    """Fit p_L = p_c + slope * L^(-11/4) to the estimates by size, weighted by their errors.

    At least two sizes are needed.
    """
    weights = sums = x_sums = y_sums = xy_sums = 0.0
    for size, (value, error) in estimates.items():
        weight, x = error**-2, size**-EXPONENT
        weights += weight
        sums += weight * x
        x_sums += weight * x * x
        y_sums += weight * value
        xy_sums += weight * x * value
    determinant = weights * x_sums - sums * sums
    threshold = (x_sums * y_sums - sums * xy_sums) / determinant
    slope = (weights * xy_sums - sums * y_sums) / determinant
    chi_squared = sum(
        ((value - threshold - slope * size**-EXPONENT) / error) ** 2
        for size, (value, error) in estimates.items()
    )
    return Extrapolation(
        threshold, sqrt(x_sums / determinant), slope, chi_squared, len(estimates) - 2
    )
