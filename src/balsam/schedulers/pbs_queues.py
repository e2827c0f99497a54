"""What PBS tells of its queues and nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from balsam.schedulers.answers import unreadable
from balsam.schedulers.scheduler import Answer, Queue, Window
from balsam.schedulers.times import duration

_IS_DOWN = re.compile(
    r"down|offline|unknown|stale|maintenance|unresolvable|provision|sleep", re.IGNORECASE
)
_UNITS = {"b": 1 / 2**20, "kb": 2**-10, "mb": 1, "gb": 2**10, "tb": 2**20}

Attributes = Mapping[str, Any]


class Host(msgspec.Struct):
    """A host, of one vnode or several."""

    queue: str = ""  #: the one that it is for, if only one
    available: dict[str, str] = {}
    cores: int = 0
    gpus: int = 0
    memory_mib: int = 0
    is_up: bool = True
    is_free: bool = True


def read_hosts(answer: Answer, nodes: Mapping[str, Attributes]) -> list[Host]:
    """Return the hosts of ``pbsnodes -a -F json``, whose vnodes it lists one by one."""
    hosts: dict[str, Host] = {}
    for name, node in nodes.items():
        available = node.get("resources_available", {})
        host = hosts.setdefault(str(available.get("host", name)), Host())
        host.queue = str(node.get("queue", host.queue))
        host.available |= {key: str(value) for key, value in available.items()}
        host.cores += int(_number(answer, available.get("ncpus", 0)))
        host.gpus += int(_number(answer, available.get("ngpus", 0)))
        host.memory_mib += _mebibytes(answer, str(available.get("mem", "0b")))
        state = str(node.get("state", ""))
        host.is_up &= _IS_DOWN.search(state) is None
        taken = node.get("jobs") or node.get("resources_assigned", {}).get("ncpus")
        host.is_free &= state == "free" and not taken
    return list(hosts.values())


def read_queues(
    answer: Answer,
    queues: Mapping[str, Attributes],
    server: Attributes,
    hosts: Sequence[Host],
    user: str,
) -> list[Queue]:
    """Return the queues of ``qstat -Q -f -F json``, as *user* can use them."""
    return [_queue(answer, name, queues, server, hosts, user) for name in queues]


def read_windows(queues: Mapping[str, Attributes], hosts: Sequence[Host]) -> list[Window]:
    """Return the free hosts of each queue. PBS does not tell for how long they are."""
    free = {
        name: sum(host.is_free and host.is_up for host in _hosts_of(name, queues, hosts))
        for name in queues
    }
    return [Window(queue=name, num_nodes=count) for name, count in free.items() if count]


def _queue(
    answer: Answer,
    name: str,
    queues: Mapping[str, Attributes],
    server: Attributes,
    hosts: Sequence[Host],
    user: str,
) -> Queue:
    ours = [host for host in _hosts_of(name, queues, hosts) if host.is_up]
    closed = _why_closed(queues[name], user)
    cores = max((host.cores for host in ours), default=0)
    most = _limit(answer, name, queues, "resources_max", "nodect", cores)
    least = _limit(answer, name, queues, "resources_min", "nodect")
    shortest = _limit(answer, name, queues, "resources_min", "walltime")
    longest = _limit(answer, name, queues, "resources_max", "walltime")
    queued = [
        limit
        for limit in (_per_user(queues[name], user), _per_user(server, user))
        if limit is not None
    ]
    return Queue(
        name=name,
        is_default=server.get("default_queue") == name,
        is_open=not closed,
        comment=closed,
        min_nodes=None if least is None else int(least),
        max_nodes=None if most is None else int(most),
        min_minutes=None if shortest is None else shortest / 60,
        max_minutes=None if longest is None else longest / 60,
        max_queued=min(queued) if queued else None,
        nodes=len(ours),
        cores_per_node=cores,
        gpus_per_node=max((host.gpus for host in ours), default=0),
        memory_mib=max((host.memory_mib for host in ours), default=0),
    )


def _why_closed(queue: Attributes, user: str) -> str:
    reasons = (
        ("it takes no requests", str(queue.get("enabled")) != "True"),
        ("it starts none", str(queue.get("started")) != "True"),
        ("it takes only what other queues pass on", str(queue.get("from_route_only")) == "True"),
        (f"it is not for {user}", not _is_for(queue, user)),
    )
    return " and ".join(text for text, is_so in reasons if is_so)


def _is_for(queue: Attributes, user: str) -> bool:
    """Tell whether the queue's list of users, if it has one that counts, has this one."""
    listed = _words(queue.get("acl_users", ""))
    if str(queue.get("acl_user_enable")) != "True" or not listed:
        return True
    return bool({word.lstrip("+").split("@")[0] for word in listed} & {user, "*", ""})


def _destinations(queue: Attributes, queues: Mapping[str, Attributes]) -> list[str]:
    """Return the queues of this server that a routing queue passes requests on to."""
    names = [word.split("@")[0] for word in _words(queue.get("route_destinations", ""))]
    return [name for name in names if name in queues]


def _limit(
    answer: Answer,
    name: str,
    queues: Mapping[str, Attributes],
    kind: str,
    resource: str,
    cores: int = 0,
) -> float | None:
    """Return a limit; a routing queue without one has the widest of where it leads to."""
    own = _own_limit(answer, queues[name].get(kind, {}), resource, cores)
    if own is not None:
        return own
    inner = [
        _own_limit(answer, queues[each].get(kind, {}), resource, cores)
        for each in _destinations(queues[name], queues)
    ]
    known = [limit for limit in inner if limit is not None]
    if not known or len(known) < len(inner):
        return None
    return min(known) if kind == "resources_min" else max(known)


def _own_limit(answer: Answer, limits: Attributes, resource: str, cores: int) -> float | None:
    """Return a queue's own limit; one of cores is one of nodes, when *cores* is not 0."""
    found = limits.get(resource)
    if resource == "walltime":
        return None if found is None else duration(str(found))
    known = [] if found is None else [_number(answer, found)]
    if cores and "ncpus" in limits:
        known.append(_number(answer, limits["ncpus"]) // cores)
    return min(known, default=None)


def _hosts_of(name: str, queues: Mapping[str, Attributes], hosts: Sequence[Host]) -> Sequence[Host]:
    """Return the hosts of a queue; of a routing queue, those of where it leads to."""
    names = _destinations(queues[name], queues) or [name]
    found = [host for each in names for host in _hosts_of_one(each, queues[each], hosts)]
    return list({id(host): host for host in found}.values())


def _hosts_of_one(name: str, queue: Attributes, hosts: Sequence[Host]) -> Sequence[Host]:
    """Return a queue's own hosts, or those for all that have what its chunks ask for."""
    own = [host for host in hosts if host.queue == name]
    if own:
        return own
    # Sites bind queues to nodes by a resource of their own, such as Qlist.
    asked = {
        key: str(value)
        for key, value in queue.get("default_chunk", {}).items()
        if not re.fullmatch(r"\d+([kmgt]?[bw])?", str(value))
    }
    return [
        host
        for host in hosts
        if not host.queue
        and all(value in host.available.get(key, "").split(",") for key, value in asked.items())
    ]


def _per_user(of: Attributes, user: str) -> int | None:
    """Read ``[u:PBS_GENERIC=10],[u:ana=20]``."""
    found = dict(re.findall(r"u:([^=\]]+)=(\d+)", str(of.get("max_queued", ""))))
    limit = found.get(user, found.get("PBS_GENERIC"))
    return None if limit is None else int(limit)


def _words(text: object) -> list[str]:
    return [word.strip() for word in str(text).split(",") if word.strip()]


def _number(answer: Answer, value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise unreadable(answer, str(value), "a number") from None


def _mebibytes(answer: Answer, text: str) -> int:
    match = re.fullmatch(r"(\d+)([kmgt]?b)?", text.lower())
    if match is None:
        raise unreadable(answer, text, "an amount of memory, such as 24684092kb")
    return int(int(match[1]) * _UNITS[match[2] or "b"])
