"""What the service asks the batch system for: from the work that waits to a few batch jobs.

Pure: what is known goes in, what to do comes out, and why. In this order:

1. Allocations that there are take what they can do in the time they have left, running ones first.
   A request of the service that still waits and is left without work is surplus.
2. What is left is bundled. Each queue is asked what one request there could do (`offer.py`): as
   few nodes as end all that fits within `target_minutes`, or within these after its longest job,
   and as long as they need. The queue where it does most is taken, the first among equals. So it
   goes on until nothing is left, or the queues are full, or the budget is spent.
3. A request that could not start now is made to fit nodes that are free now (`Site.windows`), if
   it then still does a good part of its work.

Jobs that no queue could ever run are told apart, with the reason; nothing is asked for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from balsam.model.resources import NodeResources
from balsam.model.service import QueueState, Unmet
from balsam.model.walltime import START_MINUTES
from balsam.schedulers.scheduler import Window
from balsam.service.estimate import Work, absorb
from balsam.service.offer import Bidder, Offer, obstacle, overhead

_NO_LIMIT = 1_000_000
#: Of a job: so much the time that allocations which run have left may be judged wrongly.
_DOUBT = 1.0


class Allocation(msgspec.Struct, kw_only=True):
    """A live batch job, or a launcher that was started by hand."""

    batch_job: int  #: 0: none
    queue: str | None  #: None: it is in none that we know of
    num_nodes: int
    minutes: float  #: that its launcher has left for jobs
    is_waiting: bool
    is_ours: bool = True  #: the service asked for it
    node: NodeResources  #: what its nodes are like
    used: float = 0.0  #: node-minutes that the jobs which its launcher has will take
    takes: Callable[[Work], bool] = lambda work: True


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One batch job to ask for."""

    queue: str
    num_nodes: int
    minutes: int
    jobs: int  #: that it is taken to run
    why: str

    @property
    def node_hours(self) -> float:
        """What it costs if it is used to its end."""
        return self.num_nodes * self.minutes / 60


class Site(msgspec.Struct, kw_only=True):
    """What the plan needs to know beside the work. The order of *queues* is that of preference."""

    queues: Sequence[QueueState]
    nodes: dict[str, NodeResources]  #: what the nodes of each queue are like
    allocations: Sequence[Allocation] = ()
    windows: Sequence[Window] = ()  #: () to take no heed of free nodes
    budget_left: float | None = None  #: node-hours; None: no limit
    target_minutes: float = 60.0
    grace_minutes: float = 0.0  #: that launchers keep for their end (see `offer.overhead`)


class Plan(msgspec.Struct, kw_only=True):
    """What to do, and why."""

    submissions: list[Submission] = []
    surplus: list[int] = []  #: batch jobs that wait and are not needed
    unmet: list[Unmet] = []
    waits: str = ""  #: why nothing more is asked for though jobs wait
    covered: int = 0  #: jobs that allocations will run that there are already


def plan(works: Sequence[Work], site: Site) -> Plan:
    """Return what to ask for so that *works* are done; their counts go down to what is not."""
    result = Plan()
    works = sorted(works, key=_order)
    waiting = _jobs(works)
    less = _idle([msgspec.structs.replace(work) for work in works], site, rounding=-_DOUBT)
    result.surplus = sorted(less & _idle(works, site, rounding=_DOUBT))
    result.covered = waiting - _jobs(works)
    for work in works:
        if work.count and (reason := impossible(work, site)):
            found = Unmet(count=work.count, example=work.example, what=work.what, reason=reason)
            result.unmet.append(found)
    possible = [work for work in works if not impossible(work, site)]
    _ask(possible, site, result)
    return result


def _order(work: Work) -> tuple[bool, int, float, int]:
    """Return by what work is put in order: what is hard to place first, always in the same way."""
    return work.is_soon, -work.request.num_nodes, -work.minutes, work.example


def _jobs(works: Sequence[Work]) -> int:
    return sum(work.count for work in works if not work.is_soon)


def _idle(works: Sequence[Work], site: Site, rounding: float) -> set[int]:
    """Give to each allocation what it can do; return our requests that are left without work.

    Of allocations that run it is never known exactly what they will still do. They are taken to
    do a little more than it seems when it is seen whether more must be asked for, and a little
    less when whether something can be taken back: else requests would come and go.
    """
    found = set()
    for each in sorted(site.allocations, key=lambda each: (each.is_waiting, each.batch_job)):
        mine = [work for work in works if each.takes(work)]
        left = each.minutes - site.grace_minutes - START_MINUTES * each.is_waiting
        if not each.is_waiting:
            absorb(mine, each.node, each.num_nodes, left, each.used, rounding)
        elif not absorb(mine, each.node, each.num_nodes, left, each.used):
            found |= {each.batch_job} if each.is_ours else set()
    return found


def impossible(work: Work, site: Site) -> str:
    """Return why no queue could ever run such jobs, '' when one can."""
    if not site.queues:
        return "there is no queue that may be used"
    obstacles = [
        obstacle(work, queue, site.nodes[queue.name], site.grace_minutes) for queue in site.queues
    ]
    return "; ".join(dict.fromkeys(obstacles)) if all(obstacles) else ""


def _ask(works: Sequence[Work], site: Site, result: Plan) -> None:
    """Add requests to *result* until all of *works* is asked for, or no more can be."""
    room = {queue.name: _room(queue, site) for queue in site.queues}
    budget = site.budget_left
    while _jobs(works):
        open_ = [queue for queue in site.queues if queue.is_open and room[queue.name] > 0]
        offers = [offer for queue in open_ if (offer := _offer(queue, works, site, budget))]
        if not offers:
            result.waits = _why_not(works, site, room, budget)
            return
        best = max(offers, key=lambda offer: offer.does)  # the first among equals
        before = sum(work.count for work in works)
        minutes = best.minutes - overhead(best.minutes, site.grace_minutes)
        absorb(works, site.nodes[best.queue.name], best.num_nodes, minutes)
        jobs = before - sum(work.count for work in works)
        result.submissions.append(
            Submission(
                queue=best.queue.name,
                num_nodes=best.num_nodes,
                minutes=best.minutes,
                jobs=jobs,
                why=_why(best, jobs),
            )
        )
        room[best.queue.name] -= 1
        budget = None if budget is None else budget - best.node_hours


def _offer(
    queue: QueueState, works: Sequence[Work], site: Site, budget: float | None
) -> Offer | None:
    node = site.nodes[queue.name]
    target, grace = site.target_minutes, site.grace_minutes
    return Bidder(queue, node, works, site.windows, target, grace).best(budget)


def _room(queue: QueueState, site: Site) -> int:
    """Return how many more requests the queue takes from us."""
    if queue.max_queued is None:
        return _NO_LIMIT
    there = sum(allocation.queue == queue.name for allocation in site.allocations)
    return queue.max_queued - there


def _why(offer: Offer, jobs: int) -> str:
    text = f"{jobs} job{'s' if jobs != 1 else ''}, {offer.does / 60:.2g} node-hours of work"
    return f"{text}; so many nodes are free now" if offer.starts_now else text


def _why_not(works: Sequence[Work], site: Site, room: dict[str, int], budget: float | None) -> str:
    """Return why nothing more is asked for."""
    reasons = []
    for queue in site.queues:
        if not queue.is_open:
            reasons.append(f"queue {queue.name} is not used now: {queue.comment}")
        elif room[queue.name] <= 0:
            reasons.append(f"queue {queue.name} has {queue.max_queued} requests, the most allowed")
        elif budget is not None and _offer(queue, works, site, None):
            reasons.append(f"the budget has {max(0.0, budget):.3g} node-hours left")
    return "; ".join(dict.fromkeys(reasons))
