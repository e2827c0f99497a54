"""What one request to a queue could do: its nodes, its minutes, the work it takes.

Pure arithmetic on what waits (`estimate.py`), within what the queue and the site's policy allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor, inf

import msgspec

from balsam.model.resources import NodeResources
from balsam.model.service import QueueState
from balsam.model.walltime import START_MINUTES, time_limit
from balsam.schedulers.scheduler import Window
from balsam.service.estimate import Kind, Work, absorb, fewest_nodes, kind, makespan, widest

#: A request made smaller to start now must still do this part of what it would have done.
WORTHWHILE = 0.25
#: Of a request that does less than this part of what it could, the longest jobs are left out.
WASTED = 0.1
#: Where neither the batch system nor the policy has a limit.
_NO_LIMIT_NODES = 100_000
_NO_LIMIT_MINUTES = 7 * 24 * 60.0


def most_nodes(queue: QueueState) -> int:
    """Return the most nodes of a request."""
    limits = [limit for limit in (queue.max_nodes, queue.nodes) if limit]
    return min(limits, default=_NO_LIMIT_NODES)


def most_minutes(queue: QueueState) -> float:
    """Return the minutes of the longest request."""
    return queue.max_minutes or _NO_LIMIT_MINUTES


def overhead(minutes: float, grace: float = 0.0) -> float:
    """Return the minutes of a request of so many that are not the jobs'.

    Parameters
    ----------
    grace
        Minutes that launchers keep for their end, as far as `START_MINUTES` has no room for them.
    """
    return minutes - time_limit(minutes) + START_MINUTES + grace


def request_minutes(work: float, grace: float = 0.0) -> int:
    """Return the shortest request whose launcher has so many minutes for jobs (see `overhead`)."""
    minutes = ceil(work + START_MINUTES + grace)
    while minutes - overhead(minutes, grace) < work:
        minutes += 1
    return minutes


def longest_work(queues: Iterable[QueueState], grace: float = 0.0) -> float:
    """Return the minutes of the longest job for which a request to one of *queues* has time."""
    longest = [floor(most_minutes(queue)) for queue in queues]
    return max((minutes - overhead(minutes, grace) for minutes in longest), default=0.0)


def obstacle(work: Work, queue: QueueState, node: NodeResources, grace: float = 0.0) -> str:
    """Return why *queue*, with nodes like *node*, can never run such jobs; '' when it can."""
    if shortage := node.shortage(work.request):
        return f"a job {shortage}"
    nodes, most = work.request.num_nodes, most_nodes(queue)
    if queue.min_nodes > most:
        return f"queue {queue.name} allows {most} nodes at most, and {queue.min_nodes} at least"
    if nodes > most:
        return f"a job needs {nodes} nodes, queue {queue.name} allows {most} at most"
    longest = most_minutes(queue)
    if queue.min_minutes > longest:
        shortest = f"{queue.min_minutes:g} at least"
        return f"queue {queue.name} allows {longest:g} minutes at most, and {shortest}"
    if request_minutes(work.minutes, grace) > longest:
        return (
            f"a job needs {work.minutes:g} minutes, queue {queue.name} allows {longest:g}, of which"
            f" {overhead(longest, grace):g} are for start and end"
        )
    return ""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One request that could be made."""

    queue: QueueState
    num_nodes: int
    minutes: int
    does: float  #: node-minutes of work
    starts_now: bool  #: nodes for it are free

    @property
    def node_hours(self) -> float:
        return self.num_nodes * self.minutes / 60


class Bidder:
    """Finds the best request to one queue for the work that waits.

    Parameters
    ----------
    node
        What the queue's nodes are like.
    works
        All that waits; what the queue cannot run is passed over.
    windows
        Nodes that are free now, of any queue; () to take no heed of them.
    target
        Minutes within which requests shall end their work, if there are nodes enough.
    grace
        See `overhead`.
    """

    def __init__(
        self,
        queue: QueueState,
        node: NodeResources,
        works: Sequence[Work],
        windows: Sequence[Window],
        target: float,
        grace: float = 0.0,
    ) -> None:
        self._queue, self._node, self._grace = queue, node, grace
        self._works = [w for w in works if w.count and not obstacle(w, queue, node, grace)]
        self._windows = [window for window in windows if window.queue == queue.name]
        self._now = self._counts(is_soon=False)
        self._soon = self._counts(is_soon=True)
        self._longest = most_minutes(queue)
        self._whole = self._longest - overhead(self._longest, grace)
        self._target = min(target, self._whole)

    def _counts(self, *, is_soon: bool) -> list[tuple[Kind, int]]:
        found = [(kind(self._node, w), w.count) for w in self._works if w.is_soon == is_soon]
        return [(each, count) for each, count in found if each is not None]

    def best(self, budget: float | None) -> Offer | None:
        """Return the request to make; None when there is none.

        Parameters
        ----------
        budget
            Node-hours that it may cost; None: any.
        """
        least = max([self._queue.min_nodes, *(each.nodes for each, _ in self._now)])
        most = most_nodes(self._queue)
        if not self._now or least > most:
            return None
        offer = self._shaped(self._nodes(least, max(least, min(most, widest(self._now)))))
        if self._is_wasted(offer) and (shorter := self._of_shorter_jobs().best(budget)):
            return shorter
        if not offer.starts_now:
            offer = self._into_window(offer) or offer
        if budget is not None and offer.node_hours > budget:
            return self._within(budget, offer)
        return offer if offer.does else None

    def _is_wasted(self, offer: Offer) -> bool:
        """Tell whether hardly any of its time would be used."""
        minutes = offer.minutes - overhead(offer.minutes, self._grace)
        return offer.does < WASTED * offer.num_nodes * minutes

    def _of_shorter_jobs(self) -> Bidder:
        """Return the bidder for work without its longest jobs: many nodes would wait for these."""
        longest = max(each.minutes for each, _ in self._now)
        shorter = [each for each in self._works if each.minutes <= longest / 4]
        return Bidder(self._queue, self._node, shorter, self._windows, self._target, self._grace)

    def _nodes(self, least: int, most: int) -> int:
        """Return the fewest nodes that end the work in the target, or that after its longest job.

        Where neither can be, it is *most*: there is so much work, or so little time.
        """
        longest = max(each.minutes for each, _ in self._now)
        for minutes in (self._target, min(longest + self._target, self._whole)):
            nodes = fewest_nodes(self._now, least, most, minutes)
            if makespan(self._now, nodes) <= minutes:
                return nodes
        return most

    def _shaped(self, num_nodes: int, longest: float = inf) -> Offer:
        """Return a request of so many nodes, as long as its work needs, at most *longest*."""
        longest = min(longest, self._longest)
        counts = [(each, n) for each, n in self._now + self._soon if each.nodes <= num_nodes]
        needed = request_minutes(min(makespan(counts, num_nodes), longest), self._grace)
        minutes = int(min(max(needed, ceil(self._queue.min_minutes)), longest))
        return Offer(
            queue=self._queue,
            num_nodes=num_nodes,
            minutes=minutes,
            does=self._done(num_nodes, minutes - overhead(minutes, self._grace)),
            starts_now=any(
                window.num_nodes >= num_nodes
                and (window.minutes is None or window.minutes >= minutes)
                for window in self._windows
            ),
        )

    def _done(self, num_nodes: int, minutes: float) -> float:
        """Return the node-minutes of work done; 0.0 when it were none that can start now."""
        copies = [msgspec.structs.replace(work) for work in self._works]
        done = absorb(copies, self._node, num_nodes, minutes)
        pairs = zip(copies, self._works, strict=True)
        starts = any(after.count < before.count for after, before in pairs if not before.is_soon)
        return done if starts else 0.0

    def _into_window(self, offer: Offer) -> Offer | None:
        """Return the request that does most of *offer*'s work on nodes that are free now."""
        smaller = []
        for window in self._windows:
            longest = floor(
                min(self._longest, window.minutes if window.minutes is not None else inf)
            )
            if window.num_nodes >= self._queue.min_nodes and longest >= self._queue.min_minutes:
                smaller.append(self._shaped(min(offer.num_nodes, window.num_nodes), longest))
        best = max(smaller, key=lambda each: each.does, default=None)
        return best if best is not None and best.does >= WORTHWHILE * offer.does > 0 else None

    def _within(self, budget: float, offer: Offer) -> Offer | None:
        """Return a request that costs no more than *budget* and does something, if there is one."""
        narrow = max(self._queue.min_nodes, min(each.nodes for each, _ in self._now))
        for num_nodes in dict.fromkeys((offer.num_nodes, narrow)):
            longest = floor(min(budget * 60 / num_nodes, self._longest))
            if longest >= max(1.0, self._queue.min_minutes):
                smaller = self._shaped(num_nodes, longest)
                if smaller.does:
                    return smaller
        return None
