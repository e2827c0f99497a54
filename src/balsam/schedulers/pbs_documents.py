"""JSON of PBS, which is not always JSON, and what is read of it.

Sources: qstat.c of OpenPBS 19 to 23, and what users of its JSON report. Values that look like
numbers are written without quotes, as ``0012`` and ``inf`` too, and those of ``Variable_List``
come from the user's environment: exported functions of the shell have line feeds, tabs and quotes.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from balsam.errors import UnreadableAnswer
from balsam.schedulers.documents import document, read, texts
from balsam.schedulers.scheduler import Answer

_MEMBER = re.compile(r'(\s*"(?:[^"\\]|\\.)*":\s*)(.*?)(,?)')
_VARIABLES = re.compile(r'(\s*)"Variable_List":\s*\{\s*')


class Times(msgspec.Struct):
    """What is read of resources, and of an estimate; others may be of any kind."""

    walltime: str = ""
    start_time: str = ""


class Job(msgspec.Struct):
    """A job. All values are texts, for PBS writes those that look like numbers as numbers."""

    state: str = msgspec.field(name="job_state")
    queue: str = ""
    comment: str = ""
    exec_host: str = ""
    substate: int | None = None
    exit_status: int | None = msgspec.field(name="Exit_status", default=None)
    started: str = msgspec.field(name="stime", default="")
    obituary: str = msgspec.field(name="obittime", default="")
    history_timestamp: str = ""
    changed: str = msgspec.field(name="mtime", default="")
    estimated: Times = msgspec.field(default_factory=Times)
    used: Times = msgspec.field(name="resources_used", default_factory=Times)
    asked: Times = msgspec.field(name="Resource_List", default_factory=Times)


class Queue(msgspec.Struct):
    """A queue."""

    enabled: str
    started: str
    leads_to: str = msgspec.field(name="route_destinations", default="")
    from_route_only: str = ""
    has_users: str = msgspec.field(name="acl_user_enable", default="")
    users: str = msgspec.field(name="acl_users", default="")
    max_queued: str = ""
    most: dict[str, str] = msgspec.field(name="resources_max", default_factory=dict)
    least: dict[str, str] = msgspec.field(name="resources_min", default_factory=dict)
    chunk: dict[str, str] = msgspec.field(name="default_chunk", default_factory=dict)


class Server(msgspec.Struct):
    """The server."""

    default_queue: str = ""
    max_queued: str = ""


class Node(msgspec.Struct):
    """A vnode."""

    state: str
    queue: str = ""
    jobs: list[str] | str = ""
    available: dict[str, Any] = msgspec.field(name="resources_available", default_factory=dict)
    assigned: dict[str, Any] = msgspec.field(name="resources_assigned", default_factory=dict)


class Document(msgspec.Struct):
    """What qstat and pbsnodes write with ``-F json``."""

    pbs_version: str
    jobs: dict[str, Job] = msgspec.field(name="Jobs", default_factory=dict)
    queues: dict[str, Queue] = msgspec.field(name="Queue", default_factory=dict)
    servers: dict[str, Server] = msgspec.field(name="Server", default_factory=dict)
    nodes: dict[str, Node] = {}


def pbs_document(answer: Answer, text: str) -> Document:
    """Return what is in *text*; what the user's variables break is repaired.

    Raises
    ------
    UnreadableAnswer
        There is no JSON, it is not whole, or it is about something else; with the line.
    """
    try:
        found = document(answer, text)
    except UnreadableAnswer:
        found = document(answer, _repaired(text))
    return read(answer, texts(found), Document)


def _repaired(text: str) -> str:
    kept: list[str] = []
    margin: str | None = None  # of the variables that are being left out
    for line in text.split("\n"):
        if margin is not None:
            if re.fullmatch(rf"{margin}\}},?\s*", line):
                kept.append(f'{margin}"Variable_List": {line.strip()}'.replace("}", "{}"))
                margin = None
        elif match := _VARIABLES.fullmatch(line):
            margin = match[1]
        else:
            kept.append(_repaired_line(line))
    return "\n".join(kept)


def _repaired_line(line: str) -> str:
    match = _MEMBER.fullmatch(line.rstrip())
    if match is None or match[2][:1] in ("", "{", "["):
        return line
    name, value, comma = match.groups()
    if not value.startswith('"'):
        return line if _is_json(value) else f"{name}{json.dumps(value)}{comma}"
    if _is_json(value) or len(value) < 2 or not value.endswith('"'):
        return line
    inner = re.sub(r'\\(?!["\\/bfnrtu])', r"\\\\", value[1:-1])
    inner = re.sub(r'(?<!\\)"', r"\\" '"', inner)
    return f'{name}"{inner}"{comma}'


def _is_json(value: str) -> bool:
    try:
        json.loads(value, strict=False)
    except json.JSONDecodeError:
        return False
    return True
