"""How much work nodes can do in some time, by classes of equal jobs: all arithmetic, no I/O.

Work is measured in node-minutes: a job that leaves room for three more like it on its node takes a
quarter of that node. Estimates are of the kind that a schedule by list (Graham, 'Bounds on
multiprocessing timing anomalies', 1969) keeps: no longer than the work divided by the nodes, and
the longest job on top.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from math import ceil, floor, inf

import msgspec

from balsam.model.resources import UNITS, NodeResources, Request


class Work(msgspec.Struct, kw_only=True):
    """Jobs of one class that wait. `count` goes down as they are given to allocations."""

    request: Request
    minutes: float  #: that one of them is taken to need
    count: int
    example: int  #: id of one of them
    workflow: str = ""  #: '' when it is not known
    is_soon: bool = False  #: they cannot start yet: they wait for parents, or for their retry

    @property
    def what(self) -> str:
        """What each asks for, in words."""
        asked = self.request
        words = [f"{asked.num_nodes} node{'s' if asked.num_nodes > 1 else ''}"]
        if asked.node_packing_count > 1:
            words.append(f"1/{asked.node_packing_count} of a node")
        else:
            cores = asked.cores_per_node
            words.append(f"{cores} core{'s' if cores > 1 else ''}")
        if asked.gpu_units:
            gpus = asked.gpu_units / UNITS
            words.append(f"{gpus:g} GPU{'s' if gpus > 1 else ''}")
        if asked.memory_mib:
            words.append(f"{asked.memory_mib} MiB")
        minutes = f"{self.minutes:.1f}".removesuffix(".0") if self.minutes >= 0.1 else "under 0.1"
        return f"{', '.join(words)} for {minutes} minutes"


def places(node: NodeResources, request: Request) -> int:
    """Return how many jobs of this request run at once on nodes like *node*; 0: none can.

    Of a job of several nodes it is what one of its nodes holds.
    """
    if node.shortage(request):
        return 0
    cores = request.core_units(node.cores)
    at_once = node.cores * UNITS // cores if cores else UNITS
    if request.gpu_units:
        at_once = min(at_once, _sharing_gpus(len(node.gpus), request))
    if request.memory_mib:
        at_once = min(at_once, node.memory_mib // request.memory_mib)
    return max(1, at_once)


def _sharing_gpus(gpus: int, request: Request) -> int:
    """Return for how many jobs so many GPUs are enough; a rank's share is of one device."""
    share = round(request.gpus_per_rank * UNITS)
    if share < UNITS:
        return gpus * (UNITS // share) // request.ranks_per_node
    return gpus * UNITS // request.gpu_units


class Kind(msgspec.Struct, frozen=True):
    """How a class of jobs fits nodes of one kind."""

    nodes: int  #: of each job
    at_once: int  #: jobs that share these nodes
    minutes: float

    @property
    def cost(self) -> float:
        """Node-minutes of one job."""
        return self.nodes / self.at_once * self.minutes

    def abreast(self, num_nodes: int) -> int:
        """Return how many jobs run at once on so many nodes."""
        return num_nodes // self.nodes * self.at_once


def kind(node: NodeResources, work: Work) -> Kind | None:
    """Return how *work* fits nodes like *node*; None when it does not."""
    at_once = places(node, work.request)
    return Kind(work.request.num_nodes, at_once, work.minutes) if at_once else None


def makespan(counts: Iterable[tuple[Kind, int]], num_nodes: int) -> float:
    """Return the minutes within which so many nodes do all these jobs; inf when they cannot.

    It is the smaller of two times that a launcher keeps: class after class; and all mixed, where
    only the last jobs leave nodes idle.
    """
    in_turn = mixed = longest = 0.0
    for each, count in counts:
        abreast = each.abreast(num_nodes)
        if count and not abreast:
            return inf
        if count:
            in_turn += ceil(count / abreast) * each.minutes
            # Nodes that jobs of several nodes leave over, others may not need.
            mixed += count / abreast * each.minutes
            longest = max(longest, each.minutes)
    return min(in_turn, mixed + longest)


def widest(counts: Iterable[tuple[Kind, int]]) -> int:
    """Return on how many nodes all these jobs run at once: more could not be used."""
    return sum(ceil(count / each.at_once) * each.nodes for each, count in counts)


def fewest_nodes(counts: Sequence[tuple[Kind, int]], least: int, most: int, minutes: float) -> int:
    """Return the fewest nodes, *least* to *most*, that do all within *minutes*; else *most*."""
    low, high = least, most
    while low < high:
        middle = (low + high) // 2
        if makespan(counts, middle) <= minutes:
            high = middle
        else:
            low = middle + 1
    return low


def absorb(
    works: Iterable[Work],
    node: NodeResources,
    num_nodes: int,
    minutes: float,
    used: float = 0.0,
    rounding: float = 0.0,
) -> float:
    """Take from *works* what so many nodes do in *minutes*; return its node-minutes.

    Class after class is put on the nodes that have most time left. What nodes are left with when
    different jobs share them is taken for whole, and even: an allocation that turns out to be too
    small is followed by another, but one too many would have been for nothing.

    Parameters
    ----------
    used
        Node-minutes that are given away already, of all nodes alike.
    rounding
        Part of a job by which its node's time may be too short (when negative: too long), beside
        what is known: between -1 and 1.
    """
    free = [(num_nodes, minutes - used / num_nodes)]
    taken = 0.0
    for work in works:
        fits = kind(node, work)
        if fits is None or fits.minutes > minutes or not work.count:
            continue
        number = _placed(fits, work.count, free, rounding)
        work.count -= number
        taken += number * fits.cost
    return taken


#: Numbers of nodes, and the minutes that each of them has left, most time first.
Free = list[tuple[int, float]]


def _placed(fits: Kind, count: int, free: Free, rounding: float) -> int:
    """Return how many of so many jobs there is time for, and take it from what is *free*."""
    after: Free = []
    placed = looked = used = few = 0
    while placed < count and looked < len(free):
        nodes, left = free[looked]
        looked += 1
        few += nodes  # nodes that are fewer than a job needs are joined with the next
        if few < fits.nodes:
            continue
        rounds = floor(left / fits.minutes + rounding + 1e-9)
        if rounds <= 0:
            break
        number = min(count - placed, fits.abreast(few) * rounds)
        placed += number
        full = ceil(number / (rounds * fits.at_once)) * fits.nodes
        after.append((full, left - number * fits.cost / full))
        if full < few:
            after.append((few - full, left))
        used, few = looked, 0
    # There may be many thousands of classes and nodes: what is not touched is not looked at.
    del free[:used]
    for each in after:
        insort(free, each, key=lambda one: -one[1])
    return placed
