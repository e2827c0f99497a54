"""JSON that commands write, amid chatter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from balsam.schedulers.answers import unreadable
from balsam.schedulers.scheduler import Answer


def document(answer: Answer, text: str) -> dict[str, Any]:
    """Return the first JSON object of *text*; what stands before and after it is chatter.

    Control characters in strings are taken as they are.

    Raises
    ------
    UnreadableAnswer
        There is none, or it is not whole; with the line.
    """
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.lstrip().startswith("{"):
            return _read(answer, "".join(lines[number:]).lstrip())
    raise unreadable(answer, text.strip().partition("\n")[0], "JSON")


def part(answer: Answer, of: Mapping[str, Any], name: str) -> Any:
    """Return a member that is always there.

    Raises
    ------
    UnreadableAnswer
        It is not.
    """
    if name not in of:
        raise unreadable(answer, json.dumps(of), f"a member {name!r}")
    return of[name]


def _read(answer: Answer, text: str) -> dict[str, Any]:
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except json.JSONDecodeError as error:
        # Where it is cut off, the line is the last one.
        told = [line.strip() for line in text.split("\n")[: error.lineno] if line.strip()]
        raise unreadable(answer, told[-1], "JSON") from error
    if not isinstance(found, dict):  # for the type checker: it begins with a brace
        raise unreadable(answer, text, "a JSON object")
    return found
