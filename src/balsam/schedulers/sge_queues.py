"""What Grid Engine tells of its queues, hosts and parallel environments.

Sources: queue_conf(5), sge_pe(5), qconf(1), qhost(1) of Grid Engine 8.1.9, and what it wrote.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from xml.etree.ElementTree import Element

import msgspec

from balsam.schedulers.answers import unreadable
from balsam.schedulers.scheduler import Answer, Queue, Window
from balsam.schedulers.sge_words import takes_requests
from balsam.schedulers.times import duration


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A queue on one host."""

    queue: str
    host: str
    slots: int
    used: int
    state: str
    cores: int
    memory_mib: int


def blocks(text: str, first: str) -> list[dict[str, str]]:
    """Return the blocks of ``name value`` lines that each begin with the name *first*."""
    found: list[dict[str, str]] = []
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == first:
            found.append({})
        if found and value:
            found[-1][name] = value.strip()
    return found


def instances(answer: Answer, root: Element) -> list[Instance]:
    """Return what ``qhost -q -xml`` tells."""
    found = []
    for host in root.iter("host"):
        about = {each.get("name"): each.text or "" for each in host.iter("hostvalue")}
        for queue in host.iter("queue"):
            values = {each.get("name"): each.text or "" for each in queue.iter("queuevalue")}
            try:
                found.append(
                    Instance(
                        queue=queue.get("name", ""),
                        host=host.get("name", ""),
                        slots=int(values["slots"]),
                        used=int(values["slots_used"]),
                        state=values["state_string"],
                        cores=_cores(about),
                        memory_mib=_mebibytes(about.get("mem_total", "-")),
                    )
                )
            except (KeyError, ValueError) as error:
                raise unreadable(answer, f"{about} {values}", "slots and cores") from error
    return found


def queue_of(answer: Answer, config: Mapping[str, str], there: Iterable[Instance]) -> Queue:
    """Return the queue of a block of ``qconf -sq``."""
    name = config["qname"]
    ours = [each for each in there if each.queue == name]
    up = [each for each in ours if takes_requests(each.state)]
    # Nodes differ: what most of them have is told.
    kinds = Counter((each.slots, each.memory_mib) for each in up)
    slots, memory = kinds.most_common(1)[0][0] if kinds else (0, 0)
    if "h_rt" not in config:
        raise unreadable(answer, f"qname {name}, without h_rt", "the limits of the queue")
    limits = [duration(usual(config[each])) for each in ("h_rt", "s_rt") if each in config]
    longest = min((limit for limit in limits if limit is not None), default=None)
    states = sorted({each.state for each in ours if each.state})
    return Queue(
        name=name,
        is_open=bool(up),
        comment="" if up else f"no host takes its requests ({', '.join(states) or 'none is up'})",
        max_minutes=None if longest is None else longest / 60,
        nodes=len(up),
        cores_per_node=slots,
        memory_mib=memory,
    )


def windows_of(there: list[Instance]) -> list[Window]:
    """Return the hosts of each queue on which no slot of any queue is taken."""
    busy = {each.host for each in there if each.used}
    free = Counter(
        each.queue for each in there if each.host not in busy and takes_requests(each.state)
    )
    return [Window(queue=queue, num_nodes=count) for queue, count in free.items()]


def usual(value: str) -> str:
    """Return what a value of a queue is on most hosts: ``8,[h1=16],[@big=32]`` is 8."""
    return value.split(",[")[0].split()[0]


def slots_of(configs: Iterable[Mapping[str, str]]) -> int:
    """Return the slots of a host of these queues, the least of them; 1 if it is not told."""
    found = [int(text) for each in configs if (text := usual(each.get("slots", "1"))).isdecimal()]
    return min(found, default=1)


def environments_of(configs: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the parallel environments that these queues have on any host."""
    words = [word for each in configs for word in re.split(r"[\s,\[\]]+", each.get("pe_list", ""))]
    names = [word.partition("=")[2] or word for word in words]
    return [name for name in dict.fromkeys(names) if name not in ("", "NONE")]


def best_environment(rules: Mapping[str, str], num_nodes: int, slots: int) -> str:
    """Return the parallel environment that gives whole nodes, '' if there is none.

    Parameters
    ----------
    rules
        The allocation rule of each environment: a number of slots on each host, ``$pe_slots`` for
        one host, ``$fill_up`` for host after host, ``$round_robin`` for one slot on each in turn.
    slots
        Of a node.
    """
    orders = [str(slots), "$pe_slots", "$fill_up", "$round_robin"]
    if num_nodes > 1:
        orders.remove("$pe_slots")
    for rule in orders:
        if found := sorted(name for name, each in rules.items() if each == rule):
            return found[0]
    return ""


def _cores(about: Mapping[str | None, str]) -> int:
    text = about.get("m_core", "-")
    return int(about["num_proc"] if text == "-" else text) if about["num_proc"] != "-" else 0


def _mebibytes(text: str) -> int:
    """Read ``23.5G``."""
    match = re.fullmatch(r"([\d.]+)([KMGT]?)", text)
    if match is None:
        return 0
    units = {"": 1 / 1024**2, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}
    return int(float(match[1]) * units[match[2]])
