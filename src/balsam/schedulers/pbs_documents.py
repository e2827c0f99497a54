"""JSON of PBS, which is not always JSON.

Sources: qstat.c of OpenPBS 19 to 23, and what users of its JSON report. Values that look like
numbers are written without quotes, as ``0012`` and ``inf`` too, and those of ``Variable_List``
come from the user's environment: exported functions of the shell have line feeds, tabs and quotes.
"""

from __future__ import annotations

import json
import re
from typing import Any

from balsam.errors import UnreadableAnswer
from balsam.schedulers.answers import unreadable
from balsam.schedulers.documents import document
from balsam.schedulers.scheduler import Answer

_MEMBER = re.compile(r'(\s*"(?:[^"\\]|\\.)*":\s*)(.*?)(,?)')
_VARIABLES = re.compile(r'(\s*)"Variable_List":\s*\{\s*')


def pbs_document(answer: Answer, text: str) -> dict[str, Any]:
    """Return the JSON object of *text*; its variables are left out where they cannot be read.

    Raises
    ------
    UnreadableAnswer
        There is none, or it is not whole; with the line.
    """
    try:
        found = document(answer, text)
    except UnreadableAnswer:
        found = document(answer, _repaired(text))
    if "pbs_version" not in found:
        raise unreadable(answer, json.dumps(found), "a member 'pbs_version'")
    return found


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
