"""Calls as payloads of jobs (see `model/payload.py`)."""

from __future__ import annotations

import base64
import hashlib
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from balsam.errors import InvalidInput
from balsam.functions.futures import Future
from balsam.functions.pickling import dump_call, dumps
from balsam.model.payload import as_json

#: Arguments of more bytes than this are kept in files.
INLINE_BYTES = 32_768
#: Where, in a site.
DIRECTORY = "data/.arguments"

#: What needs no more than pickle itself, which is faster.
_SIMPLE = frozenset((int, float, complex, str, bytes, bool, type(None)))

Call = tuple[tuple[Any, ...], Mapping[str, Any]]


class Written(NamedTuple):
    """A payload, and the futures whose results are among the arguments."""

    payload: str
    futures: list[Future]


class Writer:
    """Writes calls of the function *name* for the site at *site*.

    Parameters
    ----------
    names
        Gives the name of the argument at a position, for messages.
    inline_bytes
        Larger pickles are kept in files of the site.
    """

    def __init__(
        self,
        site: Path,
        name: str,
        names: Callable[[int], str],
        inline_bytes: int = INLINE_BYTES,
    ) -> None:
        self._site = site
        self._name = name
        self._names = names
        self._inline_bytes = inline_bytes

    def one(self, words: tuple[Any, ...], keywords: Mapping[str, Any]) -> Written:
        """Return the payload of one call.

        Raises
        ------
        InvalidInput
            An argument cannot be pickled, or its file not be written; it is named.
        """
        text = as_json([list(words), dict(keywords)])
        if text is not None and len(text) <= self._inline_bytes:
            return Written("J" + text, [])
        data, futures = dump_call(self._name, self._names, (words, keywords))
        if futures:
            return Written("R" + base64.b64encode(data).decode(), futures)
        return Written(self._kept(data, "P", "F"), [])

    def many(self, calls: list[Call]) -> str | None:
        """Return the payload of *calls* as one job; None when a future is among the arguments.

        Raises
        ------
        InvalidInput
            As for `one`.
        """
        if all(_SIMPLE.issuperset(map(type, words)) and not keywords for words, keywords in calls):
            data = pickle.dumps(calls)
        else:
            data = self._pickled(calls)
            if not data:
                return None
        return self._kept(data, "M", "G")

    def _pickled(self, calls: list[Call]) -> bytes:
        try:
            data, futures = dumps(calls)
        except Exception:  # whatever an argument's own code raises: it is looked for
            for call in calls:
                dump_call(self._name, self._names, call)
            raise
        return b"" if futures else data

    def _kept(self, data: bytes, here: str, in_a_file: str) -> str:
        if len(data) <= self._inline_bytes:
            return here + base64.b64encode(data).decode()
        return in_a_file + self._file(data)

    def _file(self, data: bytes) -> str:
        """Write *data* to a file named for its content; return its path in the site."""
        name = hashlib.blake2s(data, digest_size=16).hexdigest()
        place = f"{DIRECTORY}/{name[:2]}/{name}.pickle"
        file = self._site / place
        try:
            if not _is_there(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                aside = file.with_suffix(f".{os.getpid()}.{id(data)}")
                aside.write_bytes(data)
                aside.replace(file)
        except OSError as error:
            raise InvalidInput(
                f"the arguments of {self._name} ({len(data) >> 10} KiB) cannot be written to"
                f" {file}: {error.strerror}"
            ) from error
        return place


def _is_there(file: Path) -> bool:
    """Tell whether *file* can be used again, and let it be young: what is old may be removed."""
    try:
        os.utime(file)
    except OSError:  # it is not there, or another user's
        return False
    return True
