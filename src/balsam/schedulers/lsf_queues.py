"""What LSF tells of its queues, hosts and back-fill windows.

Sources: ``bqueues -l``, ``bhosts``, ``bmgroup``, ``bslots`` in the command reference of LSF 10.1;
output of ``bqueues -l`` quoted by users; of ``bslots -l`` in the pages of COSMA (Durham), of
``bslots -R select[CN]`` in the user guide of Summit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec

from balsam.schedulers.answers import unreadable
from balsam.schedulers.documents import read
from balsam.schedulers.scheduler import Answer, Queue, Window

_NO_WINDOW = re.compile(r"no backfill window", re.IGNORECASE)
_IS_DOWN = re.compile(r"un|closed_(adm|lim)", re.IGNORECASE)
_UNITS = {"day": 1440.0, "hour": 60.0, "minute": 1.0, "second": 1 / 60}


class Host(msgspec.Struct, frozen=True):
    """A host that can have jobs."""

    name: str
    slots: int  #: 0: not told


class _Record(msgspec.Struct, rename="upper"):
    """A record of bhosts."""

    host_name: str
    status: str
    max: str


class _Records(msgspec.Struct, rename="upper"):
    records: list[_Record]


def read_hosts(answer: Answer, found: object) -> list[Host]:
    """Return the hosts of ``bhosts -json -o "host_name status max"`` that are up."""
    records = read(answer, found, _Records).records
    up = [each for each in records if not _IS_DOWN.match(each.status)]
    return [Host(each.host_name, int(each.max) if each.max.isdecimal() else 0) for each in up]


def has_groups(text: str) -> bool:
    """Tell whether a queue of ``bqueues -l`` has a group of hosts, written with a slash."""
    return re.search(r"^HOSTS:.*/", text, re.MULTILINE) is not None


def read_groups(answer: Answer, text: str) -> dict[str, list[str]]:
    """Return the hosts of each group of ``bmgroup -r -w``."""
    lines = [line.split() for line in text.splitlines()]
    heads = [number for number, words in enumerate(lines) if words[:2] == ["GROUP_NAME", "HOSTS"]]
    if not heads:
        raise unreadable(answer, text.strip().partition("\n")[0], "the line GROUP_NAME HOSTS")
    return {words[0]: words[1:] for words in lines[heads[0] + 1 :] if words}


def read_queues(
    answer: Answer, text: str, hosts: Sequence[Host], groups: Mapping[str, Sequence[str]]
) -> list[tuple[Queue, frozenset[str]]]:
    """Return the queues of ``bqueues -l``, each with the names of its hosts."""
    blocks = re.split(r"^QUEUE: *", text, flags=re.MULTILINE)[1:]
    if not blocks:
        raise unreadable(answer, text.strip().partition("\n")[0], "QUEUE: …")
    return [_queue(answer, block, hosts, groups) for block in blocks]


def _queue(
    answer: Answer, block: str, hosts: Sequence[Host], groups: Mapping[str, Sequence[str]]
) -> tuple[Queue, frozenset[str]]:
    lines = block.splitlines()
    _list(answer, lines, "USERS:")  # it is there when the block is whole
    names = _members(_list(answer, lines, "HOSTS:"), groups)
    ours = [host for host in hosts if host.name in names or "all" in names]
    slots = Counter(host.slots for host in (ours or hosts))
    cores = slots.most_common(1)[0][0] if slots else 0
    status = _status(answer, lines)
    fewest, most = _tasks(answer, lines)
    queue = Queue(
        name=lines[0].strip(),
        is_default=re.search(r"is the default queue", block) is not None,
        is_open=status == "Open:Active",
        comment="" if status == "Open:Active" else f"its status is {status}",
        min_nodes=-(-fewest // cores) if fewest and cores else None,
        max_nodes=most // cores if most and cores else None,
        max_minutes=_run_limit(answer, lines),
        nodes=len(ours),
        cores_per_node=cores,
    )
    return queue, frozenset(host.name for host in ours)


def _list(answer: Answer, lines: Sequence[str], heading: str) -> list[str]:
    """Return the words after a heading that each queue has."""
    for line in lines:
        if line.startswith(heading) and (words := line.removeprefix(heading).split()):
            return words
    raise unreadable(answer, next(filter(None, reversed(lines)), ""), f"a line {heading} …")


def _members(words: Sequence[str], groups: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the hosts of a list of hosts and groups, each perhaps with a preference (+2)."""
    names = [re.sub(r"\+\d*$", "", word) for word in words]
    members = [groups.get(name.rstrip("/"), []) if "/" in name else [name] for name in names]
    return {member for each in members for member in each}


def _status(answer: Answer, lines: Sequence[str]) -> str:
    for line, after in pairwise(lines):
        if line.split()[:3] == ["PRIO", "NICE", "STATUS"] and len(after.split()) > 3:
            return after.split()[2]
    raise unreadable(answer, lines[0], "a line PRIO NICE STATUS …, and its values")


def _limits(lines: Sequence[str], *names: str) -> list[str]:
    """Return what stands under the names of limits, in the order of the lines."""
    found = []
    for line, after in pairwise(lines):
        starts = [match.start() for match in re.finditer(r"\b[A-Z]+LIMIT\b", line)]
        for start, end in zip(starts, [*starts, None][1:], strict=True):
            if line[start:].startswith(names):
                found.append(after[start:end].strip() if end else after[start:].strip())
    return found


def _run_limit(answer: Answer, lines: Sequence[str]) -> float | None:
    """Return the longest time; a default stands before it."""
    found = _limits(lines, "RUNLIMIT")
    if not found:
        return None
    match = re.match(r"(\d+(?:\.\d+)?) min", found[-1])
    if match is None:
        raise unreadable(answer, found[-1], "a limit such as 1440.0 min")
    return float(match[1])


def _tasks(answer: Answer, lines: Sequence[str]) -> tuple[int, int]:
    """Return the fewest and most slots of ``MAX``, ``MIN MAX`` or ``MIN DEFAULT MAX``; 0: any."""
    found = _limits(lines, "TASKLIMIT", "PROCLIMIT")
    if not found:
        return 0, 0
    words = found[-1].split()
    if not words or not all(word.isdecimal() for word in words):
        raise unreadable(answer, found[-1], "a limit such as 1 4 16")
    return (int(words[0]) if len(words) > 1 else 0), int(words[-1])


def read_windows(
    answer: Answer, text: str, queues: Sequence[tuple[Queue, frozenset[str]]]
) -> list[Window]:
    """Return the windows of ``bslots -l``, in whole hosts, for each open queue."""
    if _NO_WINDOW.search(text):
        return []
    blocks = re.split(r"^SLOTS: *", text, flags=re.MULTILINE)[1:]
    if not blocks:
        raise unreadable(answer, text.strip().partition("\n")[0], "SLOTS: …")
    windows = []
    for block in blocks:
        length = re.search(r"^RUNTIME: *(.+)$", block, re.MULTILINE)
        listed = re.search(r"^HOSTS: *(.+)\Z", block, re.MULTILINE | re.DOTALL)
        if length is None or listed is None:
            raise unreadable(answer, block.strip(), "RUNTIME: … and HOSTS: …")
        minutes = _minutes(answer, length[1])
        free = dict(_free(answer, item) for item in listed[1].split())
        for queue, names in queues:
            whole = [host for host in names if free.get(host, 0) >= queue.cores_per_node > 0]
            if queue.is_open and whole:
                windows.append(Window(queue=queue.name, num_nodes=len(whole), minutes=minutes))
    return windows


def read_windows_of_nodes(
    answer: Answer, text: str, queues: Sequence[tuple[Queue, frozenset[str]]]
) -> list[Window]:
    """Return the windows of ``bslots -R select[CN]``, whose slots are nodes."""
    if _NO_WINDOW.search(text):
        return []
    lines = [line for line in text.splitlines() if line.strip()]
    heads = [number for number, line in enumerate(lines) if line.split() == ["SLOTS", "RUNTIME"]]
    if not heads:
        raise unreadable(answer, lines[0] if lines else "", "the line SLOTS RUNTIME")
    windows = []
    for line in lines[heads[0] + 1 :]:
        match = re.fullmatch(r"\s*(\d+)\s+(.+)", line)
        if match is None:
            raise unreadable(answer, line, "a number and a time")
        minutes = _minutes(answer, match[2])
        windows += [
            Window(queue=queue.name, num_nodes=int(match[1]), minutes=minutes)
            for queue, _ in queues
            if queue.is_open
        ]
    return windows


def _free(answer: Answer, item: str) -> tuple[str, int]:
    """Read ``12*m4140``."""
    count, star, host = item.partition("*")
    if not star:
        return item, 1
    if not count.isdecimal():
        raise unreadable(answer, item, "slots and a host, such as 12*m4140")
    return host, int(count)


def _minutes(answer: Answer, text: str) -> float | None:
    """Read ``6 hours 37 minutes 0 seconds``; None: no limit."""
    if text.strip() == "UNLIMITED":
        return None
    if not re.fullmatch(r"\s*(\d+ (day|hour|minute)s? )*\d+ seconds?\s*", text):
        raise unreadable(answer, text, "a time such as 6 hours 37 minutes 0 seconds")
    amounts = re.findall(r"(\d+) (day|hour|minute|second)", text)
    return sum(int(count) * _UNITS[unit] for count, unit in amounts)
