"""What is text in 0.x: environment variables, parents, history; and its times."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from balsam.model.states import State
from balsam.model.wire import Event

#: How `state_history` writes times.
TIME_FORMAT = "%m-%d-%Y %H:%M:%S.%f"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def environ_of(text: str | Mapping[str, Any] | None) -> dict[str, str]:
    """Return the variables in ``A=1:B=2``.

    What follows a colon belongs to the value before it unless it begins with a name and, but for
    a name that stands alone, an equals sign: ``PATH=/a:/b:N=1`` has two variables. A name that
    stands alone has an empty value.
    """
    if not text:
        return {}
    if isinstance(text, Mapping):
        return {str(name): str(value) for name, value in text.items()}
    found: dict[str, str] = {}
    last = ""
    for part in text.split(":"):
        name, equals, value = part.partition("=")
        if last and not _NAME.fullmatch(name):
            found[last] += f":{part}"
        elif name:
            last = name if equals else ""
            found[name] = value
    return found


def environ_text(environ: Mapping[str, str]) -> str:
    """Return *environ* as ``A=1:B=2``."""
    return ":".join(f"{name}={value}" for name, value in environ.items())


def parents_of(text: str | Iterable[Any] | None) -> list[Any]:
    """Return what the field `parents` names: a JSON list of UUIDs, or a collection of jobs.

    Raises
    ------
    ValueError
        The text is no JSON list.
    """
    if not isinstance(text, str):
        return list(text or ())
    found = json.loads(text or "[]")
    if not isinstance(found, list):
        raise ValueError(f"parents is {text!r}; it must be a JSON list of job ids")
    return found


def parents_text(parents: Iterable[UUID]) -> str:
    """Return the field `parents` of 0.x."""
    return json.dumps([str(parent) for parent in parents])


def local_time(seconds: float) -> datetime:
    """Return the time as 0.x gives it: without a zone, and such that ``now() - time`` is right.

    It is the time of this process's zone. (0.x set the zone of the whole process to UTC.)
    """
    return datetime.fromtimestamp(seconds)


def history_line(state: str = "CREATED", message: str = "", time: datetime | None = None) -> str:
    """Return a line of `state_history`, with the line end before it."""
    told = (datetime.now() if time is None else time).strftime(TIME_FORMAT)
    return f"\n[{told} {state}] ".rjust(46) + message


def entered(events: Iterable[Event]) -> Iterator[tuple[str, float, str]]:
    """Yield each state that jobs entered, when, and the message; in order of *events*.

    As in 0.x every job begins with CREATED, also one that was inserted in the state after it.
    """
    for event in events:
        if not event.from_state and event.to_state != State.CREATED:
            yield str(State.CREATED), event.time, ""
        yield event.to_state, event.time, event.message


def history_text(events: Iterable[Event]) -> str:
    """Return the field `state_history` of 0.x."""
    lines = (history_line(s, message, local_time(time)) for s, time, message in entered(events))
    return "".join(lines)
