"""What was taken of each node at each time, from what attempts keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from balsam.model.cpus import cpu_numbers
from balsam.model.wire import Attempt, Placement, parts_of


class Limits(NamedTuple):
    """What every node has."""

    cores: int
    gpus: int
    memory_mib: int


def over_committed(attempts: Iterable[Attempt], limits: Limits) -> list[str]:
    """Return where more was taken at a time than a node has, or the same twice."""
    most = {"cores": limits.cores, "MiB": limits.memory_mib}
    taken: dict[tuple[str, str], float] = Counter()
    found = []
    for time, sign, attempt, part in _steps(attempts):
        for what, amount in _amounts(part):
            taken[part.node, what] += sign * amount
            limit = most.get(what, 1.0)  # of one core, and one GPU, there is one
            if taken[part.node, what] > limit + 1e-6:
                total = f"{taken[part.node, what]:g} of {limit:g} {what} of {part.node}"
                found.append(f"{total} at {time:.3f}, by job {attempt.job}: {part}")
        for gpu in part.gpus:
            if int(gpu) >= limits.gpus:
                found.append(f"{part.node} has no GPU {gpu}: job {attempt.job}")
    return found


def _steps(attempts: Iterable[Attempt]) -> Iterator[tuple[float, int, Attempt, Placement]]:
    """Yield what is taken (1) and given back (-1), in order of time."""
    steps = []
    for attempt in attempts:
        assert attempt.started_at is not None
        assert attempt.ended_at is not None, f"job {attempt.job}: its end is not recorded"
        parts = parts_of(attempt.placement)
        assert parts, f"job {attempt.job}: its placement is not recorded"
        for part in parts:
            steps.append((attempt.started_at, 1, attempt, part))
            steps.append((attempt.ended_at, -1, attempt, part))
    yield from sorted(steps, key=lambda step: step[:2])  # what ends at a time makes room first


def _amounts(part: Placement) -> Iterator[tuple[str, float]]:
    yield "cores", part.count
    yield "MiB", part.memory_mib
    for core in cpu_numbers(part.cores) if part.cores else ():
        yield f"core {core}", 1.0
    for gpu, share in part.gpus.items():
        yield f"GPU {gpu}", share


def core_seconds(attempts: Iterable[Attempt]) -> float:
    """Return what the attempts took of all cores."""
    return sum(
        part.count * (attempt.ended_at - attempt.started_at)
        for attempt in attempts
        if attempt.started_at is not None and attempt.ended_at is not None
        for part in parts_of(attempt.placement)
    )
