"""What PBS tells of its queues and nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from balsam.schedulers import pbs_documents as documents
from balsam.schedulers.answers import unreadable
from balsam.schedulers.scheduler import Answer, Queue, Window
from balsam.schedulers.times import duration

_IS_DOWN = re.compile(
    r"down|offline|unknown|stale|maintenance|unresolvable|provision|sleep", re.IGNORECASE
)
_UNITS = {"b": 1 / 2**20, "kb": 2**-10, "mb": 1, "gb": 2**10, "tb": 2**20}


class Host(msgspec.Struct):
    """A host, of one vnode or several."""

    queue: str = ""  #: the one that it is for, if only one
    available: dict[str, str] = {}
    cores: int = 0
    gpus: int = 0
    memory_mib: int = 0
    is_up: bool = True
    is_free: bool = True


def read_hosts(answer: Answer, nodes: Mapping[str, documents.Node]) -> list[Host]:
    """Return the hosts of ``pbsnodes -a -F json``, whose vnodes it lists one by one."""
    hosts: dict[str, Host] = {}
    for name, node in nodes.items():
        has = {key: str(value) for key, value in node.available.items()}
        host = hosts.setdefault(has.get("host", name), Host())
        host.queue = node.queue or host.queue
        host.available |= has
        host.cores += int(_number(answer, has.get("ncpus", "0")))
        host.gpus += int(_number(answer, has.get("ngpus", "0")))
        host.memory_mib += _mebibytes(answer, has.get("mem", "0b"))
        host.is_up &= _IS_DOWN.search(node.state) is None
        is_taken = node.jobs or str(node.assigned.get("ncpus", "0")) != "0"
        host.is_free &= node.state == "free" and not is_taken
    return list(hosts.values())


def read_queues(
    answer: Answer,
    queues: Mapping[str, documents.Queue],
    server: documents.Server,
    hosts: Sequence[Host],
    user: str,
) -> list[Queue]:
    """Return the queues of ``qstat -Q -f -F json``, as *user* can use them."""
    return [_queue(answer, name, queues, server, hosts, user) for name in queues]


def read_windows(queues: Mapping[str, documents.Queue], hosts: Sequence[Host]) -> list[Window]:
    """Return the free hosts of each queue. PBS does not tell for how long they are."""
    free = {
        name: sum(host.is_free and host.is_up for host in _hosts_of(name, queues, hosts))
        for name in queues
    }
    return [Window(queue=name, num_nodes=count) for name, count in free.items() if count]


def _queue(
    answer: Answer,
    name: str,
    queues: Mapping[str, documents.Queue],
    server: documents.Server,
    hosts: Sequence[Host],
    user: str,
) -> Queue:
    ours = [host for host in _hosts_of(name, queues, hosts) if host.is_up]
    closed = _why_closed(queues[name], user)
    cores = max((host.cores for host in ours), default=0)
    most = _limit(answer, name, queues, "most", "nodect", cores)
    least = _limit(answer, name, queues, "least", "nodect")
    shortest = _limit(answer, name, queues, "least", "walltime")
    longest = _limit(answer, name, queues, "most", "walltime")
    queued = [
        limit
        for limit in (_per_user(queues[name].max_queued, user), _per_user(server.max_queued, user))
        if limit is not None
    ]
    return Queue(
        name=name,
        is_default=server.default_queue == name,
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


def _why_closed(queue: documents.Queue, user: str) -> str:
    reasons = (
        ("it takes no requests", queue.enabled != "True"),
        ("it starts none", queue.started != "True"),
        ("it takes only what other queues pass on", queue.from_route_only == "True"),
        (f"it is not for {user}", not _is_for(queue, user)),
    )
    return " and ".join(text for text, is_so in reasons if is_so)


def _is_for(queue: documents.Queue, user: str) -> bool:
    """Tell whether the queue's list of users, if it has one that counts, has this one."""
    listed = _words(queue.users)
    if queue.has_users != "True" or not listed:
        return True
    return bool({word.lstrip("+").split("@")[0] for word in listed} & {user, "*", ""})


def _destinations(queue: documents.Queue, queues: Mapping[str, documents.Queue]) -> list[str]:
    """Return the queues of this server that a routing queue passes requests on to."""
    names = [word.split("@")[0] for word in _words(queue.leads_to)]
    return [name for name in names if name in queues]


def _limit(
    answer: Answer,
    name: str,
    queues: Mapping[str, documents.Queue],
    kind: str,
    resource: str,
    cores: int = 0,
) -> float | None:
    """Return a limit; a routing queue without one has the widest of where it leads to."""
    own = _own_limit(answer, getattr(queues[name], kind), resource, cores)
    if own is not None:
        return own
    inner = [
        _own_limit(answer, getattr(queues[each], kind), resource, cores)
        for each in _destinations(queues[name], queues)
    ]
    known = [limit for limit in inner if limit is not None]
    if not known or len(known) < len(inner):
        return None
    return min(known) if kind == "least" else max(known)


def _own_limit(
    answer: Answer, limits: Mapping[str, str], resource: str, cores: int
) -> float | None:
    """Return a queue's own limit; one of cores is one of nodes, when *cores* is not 0."""
    found = limits.get(resource)
    if resource == "walltime":
        return None if found is None else duration(found)
    known = [] if found is None else [_number(answer, found)]
    if cores and "ncpus" in limits:
        known.append(_number(answer, limits["ncpus"]) // cores)
    return min(known, default=None)


def _hosts_of(
    name: str, queues: Mapping[str, documents.Queue], hosts: Sequence[Host]
) -> Sequence[Host]:
    """Return the hosts of a queue; of a routing queue, those of where it leads to."""
    names = _destinations(queues[name], queues) or [name]
    found = [host for each in names for host in _hosts_of_one(each, queues[each], hosts)]
    return list({id(host): host for host in found}.values())


def _hosts_of_one(name: str, queue: documents.Queue, hosts: Sequence[Host]) -> Sequence[Host]:
    """Return a queue's own hosts, or those for all that have what its chunks ask for."""
    own = [host for host in hosts if host.queue == name]
    if own:
        return own
    # Sites bind queues to nodes by a resource of their own, such as Qlist.
    asked = {
        key: value
        for key, value in queue.chunk.items()
        if not re.fullmatch(r"\d+([kmgt]?[bw])?", value)
    }
    return [
        host
        for host in hosts
        if not host.queue
        and all(value in host.available.get(key, "").split(",") for key, value in asked.items())
    ]


def _per_user(limits: str, user: str) -> int | None:
    """Read ``[u:PBS_GENERIC=10],[u:ana=20]``."""
    found = dict(re.findall(r"u:([^=\]]+)=(\d+)", limits))
    limit = found.get(user, found.get("PBS_GENERIC"))
    return None if limit is None else int(limit)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _number(answer: Answer, text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d*)?", text):
        raise unreadable(answer, text, "a number")
    return float(text)


def _mebibytes(answer: Answer, text: str) -> int:
    match = re.fullmatch(r"(\d+)([kmgt]?b)?", text.lower())
    if match is None:
        raise unreadable(answer, text, "an amount of memory, such as 24684092kb")
    return int(int(match[1]) * _UNITS[match[2] or "b"])
