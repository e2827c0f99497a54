"""What Slurm tells of its partitions: their limits, their nodes, and which are free."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from balsam.schedulers import slurm_words as words
from balsam.schedulers.answers import unreadable
from balsam.schedulers.scheduler import Answer, Queue, Window
from balsam.schedulers.times import duration


def read_partitions(answer: Answer, text: str) -> list[dict[str, str]]:
    """Return the fields of each line of ``scontrol --oneliner show partition``.

    Raises
    ------
    UnreadableAnswer
        A line is cut off, or no line is about a partition.
    """
    found = []
    for line in text.splitlines():
        if not line.startswith("PartitionName="):
            continue
        fields = dict(re.findall(r"(\S+?)=(\S*)", line))
        if "State" not in fields or "TRES" not in fields:
            raise unreadable(answer, line, "PartitionName=… State=… TRES=…")
        found.append(fields)
    if not found:
        raise unreadable(answer, text.strip(), "PartitionName=…")
    return found


def queue_of(answer: Answer, fields: Mapping[str, str], groups: Sequence[Sequence[str]]) -> Queue:
    """Return a partition as a queue; *groups* are those of sinfo."""
    name = fields["PartitionName"]
    ours = [group for group in groups if group[0] == name and words.is_up(group[2])]
    # Nodes differ: what most of them have is told.
    kinds: Counter[tuple[str, str, str]] = Counter()
    for _, count, _, cores, memory, gres in ours:
        kinds[cores, memory, gres] += int(count)
    cores, memory, gres = kinds.most_common(1)[0][0] if kinds else ("0:0:0", "0", "")
    longest = duration(fields.get("MaxTime", "UNLIMITED"))
    state = fields["State"]
    return Queue(
        name=name,
        is_default=fields.get("Default") == "YES",
        is_open=state == "UP",
        comment="" if state == "UP" else f"the partition is {state}",
        min_nodes=_count(answer, fields, "MinNodes") or None,
        max_nodes=_count(answer, fields, "MaxNodes"),
        max_minutes=None if longest is None else longest / 60,
        nodes=sum(kinds.values()),
        cores_per_node=_cores(answer, cores),
        gpus_per_node=words.gpus(gres),
        memory_mib=int(memory.rstrip("+")) if memory.rstrip("+").isdecimal() else 0,
    )


def quality_of(fields: Mapping[str, str]) -> str:
    """Return the quality of service whose limits a partition has; '' if it has none."""
    name = fields.get("QoS", "N/A")
    return "" if name in ("N/A", "(null)") else name


def limited(queue: Queue, limits: Mapping[str, str]) -> Queue:
    """Return the queue with the limits of its quality of service, too.

    Parameters
    ----------
    limits
        ``MaxWall``, ``MaxTRES`` (of one request) and ``MaxSubmitPU`` (of one user) of sacctmgr.
    """
    longest = duration(limits["MaxWall"]) if limits["MaxWall"] else None
    minutes = [queue.max_minutes, None if longest is None else longest / 60]
    nodes = re.search(r"\bnode=(\d+)", limits["MaxTRES"])
    most = [queue.max_nodes, int(nodes[1]) if nodes else None]
    submitted = limits["MaxSubmitPU"]
    return msgspec.structs.replace(
        queue,
        max_minutes=min((each for each in minutes if each is not None), default=None),
        max_nodes=min((each for each in most if each is not None), default=None),
        max_queued=int(submitted) if submitted.isdecimal() else queue.max_queued,
    )


def windows_of(groups: Sequence[Sequence[str]]) -> list[Window]:
    """Return the free nodes of each partition. Slurm does not tell for how long they are."""
    free: Counter[str] = Counter()
    for partition, count, state, *_ in groups:
        if words.is_free(state):
            free[partition] += int(count)
    return [Window(queue=partition, num_nodes=count) for partition, count in free.items()]


def _count(answer: Answer, fields: Mapping[str, str], name: str) -> int | None:
    text = fields.get(name, "UNLIMITED")
    if text == "UNLIMITED":
        return None
    if not text.isdecimal():
        raise unreadable(answer, f"{name}={text}", "a number of nodes")
    return int(text)


def _cores(answer: Answer, text: str) -> int:
    """Return the cores of ``sockets:cores:threads``."""
    match = re.fullmatch(r"(\d+)\+?:(\d+)\+?:(\d+)\+?", text)
    if match is None:
        raise unreadable(answer, text, "sockets:cores:threads")
    return int(match[1]) * int(match[2])
