"""How Cobalt's commands show queues, jobs and nodes.

Sources: Util.py (print_vertical, print_tabular) and nodelist.py of Cobalt 1.0; ``nodelist`` of
Theta in the pages of ALCF.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from balsam.schedulers.answers import unreadable
from balsam.schedulers.scheduler import Answer, Queue, Window
from balsam.schedulers.times import duration

#: What columns of the node list are called on a Cray, and on a cluster.
_COLUMNS = {"Queues": "queues", "Queue": "queues", "Status": "status", "State": "status"}
_IS_DOWN = re.compile(r"down|offline|error", re.IGNORECASE)


class Node(msgspec.Struct, frozen=True):
    """A line of ``nodelist``."""

    queues: tuple[str, ...]
    status: str
    minutes: float | None  #: that it is free; None: not told


def read_records(answer: Answer, text: str, header: Sequence[str]) -> list[dict[str, str]]:
    """Return the records of ``qstat -l``: the first field, the others indented, an empty line.

    Raises
    ------
    UnreadableAnswer
        There is none, or one is not whole.
    """
    records: list[dict[str, str]] = []
    is_open = False
    for line in text.splitlines():
        inner = re.fullmatch(r"    (\w+) *:(?: (.*))?", line)
        if line.startswith(f"{header[0]}: ") and not is_open:
            records.append({header[0]: line.partition(":")[2].strip()})
            is_open = True
        elif is_open and inner is not None:
            records[-1][inner[1]] = (inner[2] or "").strip()
        elif is_open and not line.strip():
            is_open = False
        elif is_open:
            raise unreadable(answer, line, "a line NAME: VALUE")
    missing = [name for record in records for name in header if name not in record]
    if is_open or missing or not records:
        last = next(filter(str.strip, reversed(text.splitlines())), "")
        raise unreadable(answer, last, f"{header[0]}: … with {', '.join(header[1:])}")
    return records


_QUEUE = ("Name", "MinTime", "MaxTime", "MaxQueued", "MaxUserNodes", "State")


def read_queues(answer: Answer, text: str, nodes: Sequence[Node]) -> list[Queue]:
    """Return the queues of ``qstat -Q -l``."""
    return [_queue(answer, record, nodes) for record in read_records(answer, text, _QUEUE)]


def _queue(answer: Answer, record: Mapping[str, str], nodes: Sequence[Node]) -> Queue:
    name, state = record["Name"], record["State"]
    shortest, longest = duration(record["MinTime"], 60), duration(record["MaxTime"], 60)
    return Queue(
        name=name,
        is_default=name == "default",  # qsub's, when none is given
        is_open=state == "running",
        comment="" if state == "running" else f"the queue is {state}",
        max_nodes=_count(answer, record, "MaxUserNodes"),
        min_minutes=None if shortest is None else shortest / 60,
        max_minutes=None if longest is None else longest / 60,
        max_queued=_count(answer, record, "MaxQueued"),
        nodes=sum(name in node.queues and not _IS_DOWN.search(node.status) for node in nodes),
    )


def _count(answer: Answer, record: Mapping[str, str], name: str) -> int | None:
    text = record[name]
    if text in ("None", "", "-"):
        return None
    if not re.fullmatch(r"\d+(\.0)?", text):
        raise unreadable(answer, f"{name}: {text}", "a number")
    return int(float(text))


def read_nodes(answer: Answer, text: str) -> list[Node]:
    """Return the nodes of ``nodelist``, whose columns stand below their names."""
    lines = text.splitlines()
    heads = [
        number
        for number, line in enumerate(lines[:-1])
        if {"Queues", "Queue"} & set(line.split()) and lines[number + 1].startswith("===")
    ]
    if not heads:
        raise unreadable(answer, next(filter(str.strip, lines), ""), "a table of nodes")
    columns = [(match[0], match.start()) for match in re.finditer(r"\S+", lines[heads[0]])]
    return [_node(answer, line, columns) for line in lines[heads[0] + 2 :] if line.strip()]


def _node(answer: Answer, line: str, columns: Sequence[tuple[str, int]]) -> Node:
    ends: list[int | None] = [start for _, start in columns[1:]] + [None]
    cells = {
        _COLUMNS.get(name, name): line[start:end].strip()
        for (name, start), end in zip(columns, ends, strict=True)
    }
    last = columns[-1][0]
    if not cells.get("status") or not cells[_COLUMNS.get(last, last)]:
        raise unreadable(answer, line, f"a line as {' '.join(name for name, _ in columns)}")
    free = duration(cells.get("Backfill", "-"))
    return Node(
        queues=tuple(filter(None, cells.get("queues", "").split(":"))),
        status=cells["status"],
        minutes=None if free is None else free / 60,
    )


def read_windows(nodes: Sequence[Node]) -> list[Window]:
    """Return, for each queue and each length of time, how many nodes are free as long."""
    idle = [node for node in nodes if node.status == "idle"]
    windows = []
    for queue in sorted({queue for node in idle for queue in node.queues}):
        ours = [node.minutes for node in idle if queue in node.queues]
        for length in sorted({minutes for minutes in ours if minutes is not None}):
            count = sum(minutes is None or minutes >= length for minutes in ours)
            windows.append(Window(queue=queue, num_nodes=count, minutes=length))
        if None in ours:
            windows.append(Window(queue=queue, num_nodes=ours.count(None)))
    return windows
