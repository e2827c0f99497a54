"""Which node is to blame when jobs fail. Pure."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto

from balsam.launcher.actions import Action, RecallTasks, Say
from balsam.launcher.messages import Ended
from balsam.launcher.placement import Node
from balsam.model.job import Job
from balsam.model.retry import ending_text

#: Longest time, in seconds, to wait for what becomes of the same apps on other nodes.
PAUSE_SECONDS = 30.0


class Verdict(Enum):
    """What is known of a node."""

    INNOCENT = auto()
    SUSPECT = auto()  #: nothing is known yet of the same apps elsewhere: wait for that
    GUILTY = auto()


class Blame:
    """Finds the node on which jobs fail that end well elsewhere, and sets it aside.

    Such a node is worse than a lost one: as its jobs end at once, it takes one after the other.

    Parameters
    ----------
    limit
        Jobs that fail in a row on a node before it is suspected; 0: it never is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last: dict[str, dict[str, bool]] = {}  # by app and node: did its last run end well
        self.paused: set[Node] = set()  #: on which nothing is started for now

    def ended(
        self, node: Node, job: Job, ended: Ended, nodes: Collection[Node], now: float
    ) -> list[Action]:
        """Take the end of a run on *node*; set nodes aside, or let them wait.

        What is known of a node changes with what ends there, and, while it waits, elsewhere.
        `Say` is among the actions when a node was set aside.
        """
        well = not ended.exit_code
        self._last.setdefault(job.application, {})[node.name] = well
        if well:
            node.failed.clear()
        else:
            node.failed[job.id or 0] = job.application
        due: list[Action] = []
        for each in (node, *self.paused) if self.paused else (node,):
            if len(each.failed) >= self._limit > 0 and not each.set_aside:
                due += self._act_on(each, nodes, ended, now)
            else:
                self._release(each)
        return due

    def _release(self, node: Node) -> None:
        node.paused_until = 0.0
        self.paused.discard(node)

    def _act_on(
        self, node: Node, nodes: Collection[Node], ended: Ended, now: float
    ) -> list[Action]:
        verdict = self._judge(node)
        recalls: list[Action] = [RecallTasks(spawner.name) for spawner in node.spawners]
        if verdict is Verdict.SUSPECT and len(nodes) > 1:
            if node.paused_until:
                return []  # it was, and that did not help
            node.paused_until = now + PAUSE_SECONDS
            self.paused.add(node)
            return recalls
        self._release(node)
        others = sum(bool(other.set_aside) for other in nodes)
        if verdict is not Verdict.GUILTY or others >= _most_set_aside(len(nodes)):
            return []
        node.set_aside = (
            f"{len(node.failed)} jobs in a row failed on it whose apps end well on other nodes,"
            f" the last with {ending_text(ended.exit_code)}"
        )
        return [Say(f"node {node.host} is set aside: {node.set_aside}"), *recalls]

    def _judge(self, node: Node) -> Verdict:
        elsewhere = [
            well
            for app in set(node.failed.values())
            for name, well in self._last[app].items()
            if name != node.name
        ]
        if any(elsewhere):
            return Verdict.GUILTY
        return Verdict.INNOCENT if elsewhere else Verdict.SUSPECT


def _most_set_aside(nodes: int) -> int:
    """Return how many of *nodes* may be set aside: where more seem bad, it is not the nodes."""
    return min(nodes - 1, max(1, nodes // 4))
