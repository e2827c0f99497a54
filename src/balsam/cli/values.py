"""Text of the command line, and cells of files, turned into values of a job's fields."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterable
from typing import Any, Never

import msgspec

from balsam.errors import InvalidInput, UnknownField, nearest
from balsam.model.job import EDITABLE, FIELDS
from balsam.model.retry import rules_of

#: Names that 0.x had for fields.
SYNONYMS = {
    "environ_vars": "environ",
    "env": "environ",
    "walltime_minutes": "wall_time_minutes",
    "application_args": "args",
    "params": "parameters",
    "post_handle_error": "post_error_handler",
    "post_handle_timeout": "post_timeout_handler",
}
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?)?", re.IGNORECASE)
_MIB = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024.0}
_JSON_FIELDS = ("data", "parameters", "tags", "environ")
_PARENT_FIELDS = ("parents", "parents_any", "parents_failed")


def pair(text: str, option: str) -> tuple[str, str]:
    """Split ``K=V`` at the first ``=``; the value may hold anything.

    Raises
    ------
    InvalidInput
        There is no ``=`` or nothing before it, or a character that cannot be kept.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InvalidInput(f"{option} takes NAME=VALUE, not {text!r}")
    if "\0" in text:
        raise InvalidInput(f"{option} {key}: the value contains a NUL character; leave it out")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{option} {text!r} is not UTF-8") from error
    return key, value


def memory_mib(text: str) -> int:
    """Return MiB from ``512``, ``512M``, ``4G``, ``1.5GiB`` (multiples of 1024), rounded up.

    Raises
    ------
    InvalidInput
        It is not an amount of memory.
    """
    match = _MEMORY.fullmatch(text.strip())
    if not match:
        raise InvalidInput(f"memory takes MiB, or a number with K, M, G or T, not {text!r}")
    return -int(-float(match[1]) * _MIB[(match[2] or "m").lower()] // 1)


def json_value(text: str | bytes, what: str) -> Any:
    """Return the value of JSON *text*.

    Raises
    ------
    InvalidInput
        It is malformed; the message starts with *what* and says line and column.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _refuse_json(text, what, error)


def _refuse_json(text: str | bytes, what: str, error: Exception) -> Never:
    try:
        json.loads(text)
    except json.JSONDecodeError as found:
        raise InvalidInput(
            f"{what}: malformed JSON, line {found.lineno} column {found.colno}: {found.msg}"
        ) from error
    except UnicodeDecodeError as found:
        raise InvalidInput(f"{what}: not UTF-8 at byte {found.start + 1}") from error
    raise InvalidInput(f"{what}: malformed JSON: {error}") from error


def parameter(text: str) -> Any:
    """Return a number when *text* is one and prints as written (``5``, ``0.25``), else *text*.

    So ``007``, ``1.10`` and ``1e-3`` reach the command line as they were typed.
    """
    if text[-1:].isdigit() and text.isascii():
        for kind in (int, float):
            try:
                number = kind(text)
            except ValueError:
                continue
            if str(number) == text:
                return number
    return text


def field_name(name: str) -> str:
    """Return the field that users may set and that *name*, perhaps with dashes, means.

    Raises
    ------
    UnknownField
        There is none, or it is Balsam's own; the nearest is named.
    """
    known = SYNONYMS.get(name.replace("-", "_"), name.replace("-", "_"))
    if known in EDITABLE:
        return known
    if known in FIELDS:
        raise UnknownField(f"{known} is set by Balsam and cannot be changed")
    raise UnknownField(f"jobs have no field {name!r}.{nearest(known, list(EDITABLE))}")


def _boolean(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidInput(f"{name} takes true or false, not {text!r}")


def _number(name: str, text: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(text)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise InvalidInput(f"{name} takes {expected}, not {text!r}") from None


def _words(name: str, text: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidInput(f"{name} {text!r}: {error}") from error
    return dict(pair(word, name) for word in words)


def field_value(name: str, text: str) -> Any:
    """Return *text* as a value of the job field *name*.

    data, parameters, tags and environ take JSON; the last three also ``K=V K=V``. Parents
    take ids, separated by blanks or commas; retry takes rules, separated by semicolons, or JSON.

    Raises
    ------
    InvalidInput
        It cannot be one.
    """
    kind = FIELDS[name].type
    if kind is bool:
        return _boolean(name, text)
    if kind is int or kind is float:
        return memory_mib(text) if name == "memory_mib" else _number(name, text, kind)
    if name == "retry":
        return rules_of(json_value(text, name) if text.lstrip()[:1] in ("[", "{") else text)
    if name in _PARENT_FIELDS:
        ids = text.strip("[] ").replace(",", " ").split()
        return [_number(name, one, int) for one in ids]
    if name in _JSON_FIELDS:
        if name != "data" and not text.lstrip().startswith("{"):
            pairs = _words(name, text)
            return {k: parameter(v) for k, v in pairs.items()} if name == "parameters" else pairs
        return typed(name, json_value(text, name))
    return text


def as_text(value: Any) -> str:
    """Return a JSON value as an argument would hold it: text as it is, the rest as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def typed(name: str, value: Any) -> Any:
    """Return the JSON *value* as a value of the job field *name*.

    Raises
    ------
    InvalidInput
        It has not the field's type.
    """
    kind = FIELDS[name].type
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return as_text(value)
    if isinstance(value, str) and kind is not str and name != "data":
        return field_value(name, value)
    if name in ("tags", "environ") and isinstance(value, dict):
        return {key: as_text(one) for key, one in value.items()}
    if name == "retry":
        return rules_of(value)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{name}: {error}") from error


def add_launcher_tags(parser: argparse.ArgumentParser) -> None:
    """Add the option that restricts a launcher to jobs with tags (see `tags`)."""
    parser.add_argument(
        "--tag",
        metavar="K=V",
        action="append",
        default=[],
        help="run only jobs with this tag (repeatable)",
    )


def tags(items: Iterable[str]) -> dict[str, str]:
    """Return the tags that ``--tag K=V``, given several times, names.

    Raises
    ------
    InvalidInput
        One is not K=V, or a key has two values.
    """
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise InvalidInput(f"--tag {item!r} is not K=V")
        if found.setdefault(key, value) != value:
            raise InvalidInput(f"--tag {key} has two values, {found[key]!r} and {value!r}")
    return found
