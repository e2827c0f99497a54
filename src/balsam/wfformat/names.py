"""Names of a WfFormat file, which may hold anything, as names that Balsam and disks can take."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2s
from urllib.parse import quote

from balsam.model.job import LONGEST_NAME

_MARK = "_"


def plain(name: str) -> str:
    """Return *name* as the name of a job, a workflow or an app: `check_name` takes it."""
    text = "".join(char if _is_plain(char) else _MARK for char in name).strip()
    text = _shortened(text or _MARK)
    return _MARK * len(text) if text in (".", "..") else text


def _is_plain(char: str) -> bool:
    return char.isprintable() and char != "/" and ord(char) <= 0xFFFF


def plain_names(names: Iterable[str]) -> list[str]:
    """Return all *names* `plain`, and no two alike: jobs in one directory must not share output."""
    taken: set[str] = set()
    result = []
    for name in map(plain, names):
        choice, number = name, 1
        while choice in taken:
            number += 1
            choice = f"{_shortened(name, LONGEST_NAME - 8)}_{number}"
        taken.add(choice)
        result.append(choice)
    return result


def file_name(name: str) -> str:
    """Return a name for file *name* (a path, a URL, any text), another one for each.

    What is no letter, digit or one of ``_.-~`` is written as in URLs; a long name ends in a digest.
    """
    text = quote(name, safe="")
    if text.startswith("."):
        text = f"%2E{text[1:]}"
    return _shortened(text)


def _shortened(text: str, most: int = LONGEST_NAME) -> str:
    """Return *text* if it has no more than *most* bytes, else its start and a digest of it."""
    content = text.encode()
    if len(content) <= most:
        return text
    digest = blake2s(content, digest_size=8).hexdigest()
    return f"{content[: most - 17].decode(errors='ignore')}-{digest}"
