"""What the logs of LAMMPS say: tables of numbers, averages with errors, agreement of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import prod, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

#: Blocks that a run is cut into: each is longer than what the liquid remembers (about 1 tau).
BLOCKS = 10
#: Steps in which runs of different rank counts must be the same, but for round-off.
OPENING_STEPS = 200
#: How far round-off may have grown by then, relative.
ROUND_OFF = 1e-9
#: Standard errors that two averages of the same quantity may be apart.
MOST_ERRORS = 5.0

#: One line of thermodynamic output: what LAMMPS calls the quantity, and its value.
Row = dict[str, float]


class Mean(NamedTuple):
    """An average with its standard error."""

    value: float
    error: float


class Run(NamedTuple):
    """One simulation: the ranks it ran on, the rows while it settled, and those that count."""

    ranks: int
    settling: list[Row]
    production: list[Row]


def read_log(log: Path) -> Run:
    """Return what LAMMPS wrote into *log* in its two runs.

    Raises
    ------
    ValueError
        The simulation did not get to its end.
    """
    ranks = 0
    tables: list[list[Row]] = []
    columns: list[str] | None = None
    for line in log.read_text().splitlines():
        words = line.split()
        if line.endswith("MPI processor grid"):
            ranks = prod(int(words[axis]) for axis in (0, 2, 4))
        elif words[:1] == ["Step"]:
            columns = words
            tables.append([])
        elif line.startswith("Loop time of"):
            columns = None
        elif columns is not None and words[:1] != ["WARNING:"]:
            tables[-1].append(dict(zip(columns, map(float, words), strict=True)))
    if len(tables) != 2 or columns is not None:
        raise ValueError(f"{log}: the simulation did not get to its end")
    return Run(ranks, *tables)


def block_mean(values: Sequence[float], blocks: int = BLOCKS) -> Mean:
    """Return the mean of a series, with an error that knows of its correlations.

    The series is cut into *blocks* of equal length. Blocks that are longer than what the system
    remembers have independent means, whose scatter gives the error (Flyvbjerg and Petersen,
    J. Chem. Phys. 91, 461 (1989)). Values at the beginning that fill no block are left out.
    """
    length = len(values) // blocks
    if length < 1:
        raise ValueError(f"{len(values)} values make no {blocks} blocks")
    counted = values[len(values) - blocks * length :]
    means = [fmean(counted[n * length : (n + 1) * length]) for n in range(blocks)]
    return Mean(fmean(means), stdev(means) / sqrt(blocks))


def average(run: Run, quantity: str) -> Mean:
    """Return the mean of *quantity* in the part of a run that counts."""
    return block_mean([row[quantity] for row in run.production[1:]])


def combined(means: Sequence[Mean]) -> Mean:
    """Return the mean of independent means of equally long runs."""
    error = sqrt(sum(mean.error**2 for mean in means)) / len(means)
    return Mean(fmean(mean.value for mean in means), error)


def apart(one: Mean, other: Mean) -> float:
    """Return by how many standard errors two independent means differ."""
    return abs(one.value - other.value) / sqrt(one.error**2 + other.error**2)


def opening_difference(one: Run, other: Run) -> float:
    """Return the largest relative difference of two runs in their first steps.

    Ranks add up forces in another order, so they differ by round-off, and the liquid is chaotic:
    a difference grows by a factor of 50 to 400 in 200 steps. Later on, the trajectories have
    nothing in common any more, and only averages can be compared.
    """
    largest = 0.0
    for left, right in zip(one.settling, other.settling, strict=True):
        if left["Step"] > OPENING_STEPS:
            break
        for name, value in left.items():
            scale = max(abs(value), abs(right[name]), 1.0)
            largest = max(largest, abs(value - right[name]) / scale)
    return largest


def disagreements(runs: Mapping[tuple[int, int], Run]) -> list[str]:
    """Return what is wrong with *runs*, by rank count and seed: nothing, if all is well."""
    found = [
        f"seed {seed}: the log is of {run.ranks} ranks, not {ranks}; is the site's mpi.command the"
        " MPI that the program is linked with?"
        for (ranks, seed), run in sorted(runs.items())
        if run.ranks != ranks
    ]
    for (one_key, one), (other_key, other) in combinations(sorted(runs.items()), 2):
        if one_key[1] != other_key[1]:
            continue
        difference = opening_difference(one, other)
        if not difference <= ROUND_OFF:
            found.append(
                f"seed {one_key[1]}: with {one_key[0]} and {other_key[0]} ranks the first"
                f" {OPENING_STEPS} steps differ by {difference:.1e}; round-off is {ROUND_OFF:.0e}"
            )
    for quantity in ("Press", "PotEng"):
        means = {
            ranks: combined([average(run, quantity) for (r, _), run in runs.items() if r == ranks])
            for ranks in sorted({ranks for ranks, _ in runs})
        }
        for (few, one_mean), (many, other_mean) in combinations(means.items(), 2):
            if not apart(one_mean, other_mean) <= MOST_ERRORS:
                found.append(
                    f"{quantity} with {few} and {many} ranks:"
                    f" {apart(one_mean, other_mean):.1f} standard errors apart"
                )
    return found
