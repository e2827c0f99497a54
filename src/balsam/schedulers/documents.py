"""JSON that commands write, amid chatter."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from balsam.schedulers.answers import unreadable
from balsam.schedulers.scheduler import Answer

T = TypeVar("T")


def document(answer: Answer, text: str) -> dict[str, Any]:
    """Return the first JSON object of *text*; what stands before and after it is chatter.

    Control characters in strings are taken as they are.

    Raises
    ------
    UnreadableAnswer
        There is none, or it is not whole; with the line.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.lstrip().startswith("{"):
            return _read(answer, "\n".join(lines[number:]).lstrip())
    raise unreadable(answer, text.strip().partition("\n")[0], "JSON")


def read(answer: Answer, value: object, kind: type[T]) -> T:
    """Return *value*, what was found in JSON, as a record of this kind.

    Raises
    ------
    UnreadableAnswer
        A member is missing, or of another type; with the value.
    """
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise unreadable(answer, json.dumps(value), f"another value ({error})") from error


def texts(value: Any) -> Any:
    """Return *value* with all numbers as texts: some systems write what looks like one as one."""
    if isinstance(value, dict):
        return {name: texts(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [texts(inner) for inner in value]
    return "" if value is None else str(value)


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
