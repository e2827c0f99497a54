"""Grouping of failures by what they have in common: outcome, exit code, shape of the message."""

from __future__ import annotations

import re

import msgspec

#: Further shapes are counted together: one faulty app must not fill the memory.
MOST_GROUPS = 500
_EXAMPLES = 5
_LONGEST_MESSAGE = 300

_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)
_HEXADECIMAL = re.compile(
    r"\b(?:0x[0-9a-f]+|(?=[0-9a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,})\b", re.IGNORECASE
)
_PATH = re.compile(r"(?<![\w/.])(?:/[\w.+\-@%]+){2,}")
_NUMBER = re.compile(r"(?<![A-Za-z])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class FailureGroup(msgspec.Struct, kw_only=True):
    """Failures of one kind."""

    outcome: str  #: of the attempt, or 'hook' where no program ran
    exit_code: int | None
    signature: str  #: the message without what differs from job to job
    count: int = 0
    message: str = ""  #: the first one, whole
    nodes: dict[str, int] = {}  #: how many on each node; at most 50 nodes are kept
    jobs: list[int] = []  #: ids of the first few


def signature(message: str) -> str:
    """Return the first line of *message* with ids, paths and numbers replaced by their kind."""
    line = message.strip().partition("\n")[0][:_LONGEST_MESSAGE]
    line = _UUID.sub("<id>", line)
    line = _PATH.sub(lambda match: "<path>/" + match[0].rpartition("/")[2], line)
    line = _HEXADECIMAL.sub("<hex>", line)
    return _NUMBER.sub("<n>", line)


class Failures:
    """Counts failures by group, in bounded memory."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, int | None, str], FailureGroup] = {}
        self._seen: dict[str, str] = {}

    def add(
        self, job: int, outcome: str, exit_code: int | None, message: str, node: str = ""
    ) -> None:
        """Count one failure of *job*."""
        shape = self._signature(message)
        key = (outcome, exit_code, shape)
        if key not in self._groups and len(self._groups) >= MOST_GROUPS:
            key = ("other", None, "further kinds of failure")
        group = self._groups.get(key)
        if group is None:
            outcome, exit_code, shape = key
            group = FailureGroup(
                outcome=outcome, exit_code=exit_code, signature=shape, message=message
            )
            self._groups[key] = group
        group.count += 1
        if len(group.jobs) < _EXAMPLES and job not in group.jobs:
            group.jobs.append(job)
        if node and (node in group.nodes or len(group.nodes) < 50):
            group.nodes[node] = group.nodes.get(node, 0) + 1

    def _signature(self, message: str) -> str:
        shape = self._seen.get(message)
        if shape is None:
            if len(self._seen) >= MOST_GROUPS:
                self._seen.clear()
            shape = self._seen[message] = signature(message)
        return shape

    @property
    def total(self) -> int:
        return sum(group.count for group in self._groups.values())

    def groups(self) -> list[FailureGroup]:
        """Return the groups, largest first."""
        return sorted(self._groups.values(), key=lambda group: (-group.count, group.signature))
