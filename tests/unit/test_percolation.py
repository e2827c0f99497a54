"""The physics of the demo campaign, against brute force and exact sums."""

from __future__ import annotations

import importlib.util
from collections import deque
from math import comb, isclose, sqrt
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "percolation" / "percolation.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("percolation_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


percolation = load()


def order_of(count: int, random: Random) -> list[int]:
    """Return the order in which a sweep with *random* occupies the sites."""
    empty, order = list(range(count)), []
    for left in range(count - 1, -1, -1):
        chosen = int(random.random() * (left + 1))
        order.append(empty[chosen])
        empty[chosen] = empty[left]
    return order


def wraps(size: int, occupied: set[int]) -> bool:
    """Tell whether a cluster wraps: walk it, and meet a site at another place than before."""
    places: dict[int, tuple[int, int]] = {}
    for first in occupied:
        if first in places:
            continue
        places[first] = divmod(first, size)
        queue = deque([first])
        while queue:
            site = queue.popleft()
            row, column = places[site]
            for to in ((row, column + 1), (row, column - 1), (row + 1, column), (row - 1, column)):
                neighbour = (to[0] % size) * size + to[1] % size
                if neighbour not in occupied:
                    continue
                if neighbour not in places:
                    places[neighbour] = to
                    queue.append(neighbour)
                elif places[neighbour] != to:
                    return True
    return False


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_sweeps_find_the_same_thresholds_as_brute_force(size: int) -> None:
    lattice = percolation.neighbours(size)
    for seed in range(40):
        found = percolation.wrapping_threshold(lattice, Random(seed))
        order = order_of(size * size, Random(seed))
        assert wraps(size, set(order[:found]))
        assert not wraps(size, set(order[: found - 1]))


def test_a_seed_gives_the_same_sweep_every_time() -> None:
    first = percolation.sweep(12, 50, "1-12-0")
    assert first == percolation.sweep(12, 50, "1-12-0")
    assert first != percolation.sweep(12, 50, "1-12-1")
    assert sum(first.values()) == 50


def exact_wrapping(counts: dict[int, int], sites: int, p: float) -> float:
    runs = sum(counts.values())
    weights = [comb(sites, k) * p**k * (1 - p) ** (sites - k) for k in range(sites + 1)]
    return sum(times * sum(weights[n:]) for n, times in counts.items()) / runs


@pytest.mark.parametrize("p", [0.45, 0.5927, 0.75])
def test_the_wrapping_probability_is_the_binomial_sum(p: float) -> None:
    counts = percolation.sweep(6, 400, "exact")
    found, _, slope = percolation.wrapping_probability(counts, 6, p)
    assert isclose(found, exact_wrapping(counts, 36, p), rel_tol=1e-10)
    step = 1e-5
    rise = exact_wrapping(counts, 36, p + step) - exact_wrapping(counts, 36, p - step)
    assert isclose(slope, rise / (2 * step), rel_tol=1e-6)


def test_the_solution_wraps_as_often_as_an_infinite_lattice() -> None:
    counts = percolation.sweep(16, 500, "solve")
    found = percolation.solve(counts, 16)
    probability, _, _ = percolation.wrapping_probability(counts, 16, found.value)
    assert isclose(probability, percolation.WRAPPING_AT_THRESHOLD, abs_tol=1e-10)


def test_standard_errors_are_those_of_repeated_measurements() -> None:
    batches = [percolation.solve(percolation.sweep(8, 150, f"b{n}"), 8) for n in range(120)]
    mean = sum(batch.value for batch in batches) / len(batches)
    pulls = [(batch.value - mean) / batch.error for batch in batches]
    variance = sum(pull * pull for pull in pulls) / (len(pulls) - 1)
    assert abs(variance - 1) < 4 * sqrt(2 / len(pulls))


def test_pooled_histograms_are_one_longer_run() -> None:
    one, other = {5: 1, 6: 2}, {6: 3, 9: 1}
    assert percolation.pool([one, other]) == {5: 1, 6: 5, 9: 1}
    assert one == {5: 1, 6: 2}


def test_the_fit_finds_the_line_that_the_points_lie_on() -> None:
    points = {
        size: percolation.Estimate(0.6 + 0.3 * size ** (-11 / 4), 1e-4 * size)
        for size in (8, 16, 32)
    }
    fit = percolation.extrapolate(points)
    assert isclose(fit.threshold, 0.6, abs_tol=1e-12)
    assert isclose(fit.slope, 0.3, rel_tol=1e-9)
    assert fit.chi_squared < 1e-12
    assert fit.degrees_of_freedom == 1


def test_the_error_of_the_fit_is_that_of_scattered_points() -> None:
    random, errors = Random(7), {8: 2e-4, 16: 1e-4, 32: 3e-4, 64: 2e-4}
    fits = [
        percolation.extrapolate(
            {
                size: percolation.Estimate(random.gauss(0.6, error), error)
                for size, error in errors.items()
            }
        )
        for _ in range(2000)
    ]
    variance = sum((fit.threshold - 0.6) ** 2 for fit in fits) / len(fits)
    assert isclose(sqrt(variance), fits[0].error, rel_tol=0.06)
    assert isclose(sum(fit.chi_squared for fit in fits) / len(fits), 2, rel_tol=0.1)


def test_a_small_campaign_agrees_with_the_literature() -> None:
    estimates = {
        size: percolation.solve(percolation.sweep(size, 100_000 // size**2, f"1-{size}"), size)
        for size in (16, 32, 64)
    }
    fit = percolation.extrapolate(estimates)
    assert fit.error < 0.002
    assert abs(fit.threshold - percolation.LITERATURE_THRESHOLD) < 3 * fit.error
