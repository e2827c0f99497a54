"""Files here: what is to be moved, under which names, and names for what is not whole yet."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from balsam.errors import TransferBroken, TransferError

#: What another try may mend.
_PASSING = frozenset(
    (errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
)
#: Longest beginning of a name in that of its unfinished file, in bytes: a name has 255.
_BEGINNING = 150


class Item(NamedTuple):
    """A file or directory to be moved."""

    source: Path
    name: str  #: at its target, relative


class File(NamedTuple):
    """One file of an `Item`."""

    source: Path
    name: str
    size: int


def name_items(root: Path, found: Iterable[str]) -> list[Item]:
    """Return *found*, paths below *root*, each to be moved under its last name.

    Those whose last names are the same keep their directories.
    """
    paths = list(dict.fromkeys(path.rstrip("/") for path in found))
    names = Counter(os.path.basename(path) for path in paths)
    return [
        Item(root / path, name if names[name := os.path.basename(path)] == 1 else path)
        for path in paths
    ]


def files_of(items: Iterable[Item]) -> Iterator[File]:
    """Yield the files of *items*, with those in directories; links are followed.

    Raises
    ------
    TransferError
        One is no file (but a pipe, say), or is not there.
    """
    for item in items:
        yield from _files_below(item.source, item.name, frozenset())


def files_to_send(items: Iterable[Item], to: str) -> list[File]:
    """Return the files of *items*. Raises `TransferError`; it says where *to* they were to go."""
    try:
        return list(files_of(items))
    except OSError as error:
        raise failure(error, f"cannot send files to {to}") from error


def _files_below(source: Path, name: str, above: frozenset[tuple[int, int]]) -> Iterator[File]:
    found = source.stat()
    if stat.S_ISREG(found.st_mode):
        yield File(source, name, found.st_size)
    elif stat.S_ISDIR(found.st_mode):
        mark = found.st_dev, found.st_ino
        if mark in above:
            raise TransferError(f"{source} leads to a directory that it is in; remove the link")
        for entry in sorted(os.listdir(source)):
            yield from _files_below(source / entry, f"{name}/{entry}", above | {mark})
    else:
        raise TransferError(f"{source} is neither a file nor a directory, and cannot be moved")


def aside(target: Path, mark: str) -> Path:
    """Return the name of *target* while it is not whole; *mark* tells it from others' of it."""
    return target.with_name(aside_name(target.name, mark))


def aside_name(name: str, mark: str) -> str:
    """Return the name for what is to be *name* while it is not whole."""
    encoded = os.fsencode(name)
    if len(encoded) > _BEGINNING:
        cut = os.fsdecode(encoded[:_BEGINNING]).encode("utf-8", "ignore").decode()
        name = f"{cut}~{crc32(encoded):08x}"
    return f".{name}.{mark}.part"


def failure(error: OSError, what: str) -> TransferError:
    """Return *error*, met at *what*, as one of ours."""
    text = error.strerror or str(error)
    named = error.filename2 or error.filename
    if isinstance(named, bytes):
        named = os.fsdecode(named)
    about = f" ({named})" if named and str(named) not in what else ""
    kind = TransferBroken if error.errno in _PASSING else TransferError
    return kind(f"{what}: {text}{about}")
