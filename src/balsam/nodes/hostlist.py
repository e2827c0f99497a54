"""Lists of hosts in brackets, as Slurm and Flux write them: ``nid[000001-000004,7],x[1-2]y3``.

Sources: "hostlist" of Slurm 22.05 (scontrol show hostnames), RFC 29 of Flux.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product

from balsam.errors import InvalidInput

#: More than any machine has: what is larger is a typing error, and would fill the memory.
MOST = 100_000
#: Never begins with a dash: names become arguments of ssh and MPI commands.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LAST_NUMBER = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)


def expand(text: str) -> tuple[str, ...]:
    """Return the hosts of *text* in its order, numbers with their leading zeros.

    Raises
    ------
    InvalidInput
        A bracket is not closed, a range is none, a name cannot be a host's, or there are too many.
    """
    hosts: list[str] = []
    for item in _items(text):
        for name in _expand_item(item, text):
            hosts.append(check_host(name))
            if len(hosts) > MOST:
                raise InvalidInput(f"host list {_short(text)} has more than {MOST} hosts")
    return tuple(hosts)


def compress(hosts: Iterable[str]) -> str:
    """Return *hosts* as one text that `expand` turns into the same hosts in the same order."""
    runs: list[tuple[str, str, list[list[str]]]] = []
    for host in hosts:
        match = _LAST_NUMBER.fullmatch(host)
        if match is None or len(match[2]) > 15:
            runs.append((host, "", []))
            continue
        before, number, after = match.groups()
        if not runs or runs[-1][:2] != (before, after) or not runs[-1][2]:
            runs.append((before, after, [[number, number]]))
        elif _next(runs[-1][2][-1]) == number:
            runs[-1][2][-1][1] = number
        else:
            runs[-1][2].append([number, number])
    return ",".join(_run_text(*run) for run in runs)


def check_host(name: str) -> str:
    """Return *name*.

    Raises
    ------
    InvalidInput
        It cannot be the name of a host.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} is no name of a host; it has letters, digits, '.', '-' and '_' only"
        )
    return name


def _items(text: str) -> list[str]:
    """Split *text* at the commas outside of brackets."""
    items, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth not in (0, 1):
            break
        if character == "," and not depth:
            items.append(text[start:i])
            start = i + 1
    if depth:
        raise InvalidInput(f"host list {_short(text)} has a bracket without its other half")
    items.append(text[start:])
    return [item.strip() for item in items]


def _expand_item(item: str, text: str) -> Iterable[str]:
    if not item:
        raise InvalidInput(
            f"host list {_short(text)} has an empty name; write names with one comma between them"
        )
    parts = re.split(r"\[([^]]*)\]", item)  # names at even positions, ranges at odd ones
    choices: list[Sequence[str]] = []
    count = 1
    for i, part in enumerate(parts):
        choices.append(_numbers(part, text) if i % 2 else (part,))
        count *= len(choices[-1])
        if count > MOST:
            raise InvalidInput(f"host list {_short(text)} has more than {MOST} hosts")
    return map("".join, product(*choices))


def _numbers(ranges: str, text: str) -> list[str]:
    """Return the numbers of ``000001-000004,7``; the first of a range tells how many digits."""
    numbers: list[str] = []
    for each in ranges.split(","):
        low, dash, high = (part.strip() for part in each.partition("-"))
        high = high if dash else low
        if not re.fullmatch("[0-9]{1,18}", low) or not re.fullmatch("[0-9]{1,18}", high):
            raise InvalidInput(
                f"host list {_short(text)}: [{ranges}] is no list of numbers, such as [1-4,7]"
            )
        first, last = int(low), int(high)
        if first > last:
            raise InvalidInput(
                f"host list {_short(text)}: {each} counts down; write it as {high}-{low}"
            )
        if last - first >= MOST:
            raise InvalidInput(f"host list {_short(text)} has more than {MOST} hosts")
        numbers.extend(str(number).zfill(len(low)) for number in range(first, last + 1))
    return numbers


def _next(run: list[str]) -> str:
    """Return the number that would continue *run*, with as many digits as its first one."""
    return str(int(run[1]) + 1).zfill(len(run[0]))


def _run_text(before: str, after: str, numbers: list[list[str]]) -> str:
    texts = [low if low == high else f"{low}-{high}" for low, high in numbers]
    inside = ",".join(texts)
    return f"{before}[{inside}]{after}" if {",", "-"} & set(inside) else f"{before}{inside}{after}"


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}…"
