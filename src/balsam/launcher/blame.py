"""Which node is to blame when jobs fail. Pure."""

from __future__ import annotations

from balsam.launcher.messages import Ended
from balsam.launcher.placement import Node
from balsam.model.job import Job
from balsam.model.retry import ending_text


def most_set_aside(nodes: int) -> int:
    """Return how many of *nodes* may be set aside: where more seem bad, it is not the nodes."""
    return min(nodes - 1, max(1, nodes // 4))


class Blame:
    """Finds the node on which jobs fail that end well elsewhere.

    Such a node is worse than a lost one: as its jobs end at once, it takes one after the other.

    Parameters
    ----------
    limit
        Jobs that fail in a row on a node before it is to blame; 0: it never is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._well: dict[str, set[str]] = {}  # by app, the nodes where it ended well

    def ended(self, node: Node, job: Job, ended: Ended) -> str:
        """Take the end of a run on *node*; return why the node is to be set aside, or ''."""
        if not self._limit:
            return ""
        if not ended.exit_code:
            node.failed.clear()
            self._well.setdefault(job.application, set()).add(node.name)
            return ""
        node.failed[job.id or 0] = job.application
        elsewhere = any(self._well.get(app, set()) - {node.name} for app in node.failed.values())
        if len(node.failed) < self._limit or not elsewhere or node.set_aside:
            return ""
        return (
            f"{len(node.failed)} jobs in a row failed on it whose apps end well on other nodes,"
            f" the last, {job.name}, with {ending_text(ended.exit_code)}"
        )
