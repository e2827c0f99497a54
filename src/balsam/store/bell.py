"""Waking waiting processes on this machine when something changed.

Every watcher binds a datagram socket, named for its topic, in the site's `run` directory;
whoever changes something sends each of them one byte after the commit. Nothing depends on a
bell being heard: watchers also look by themselves, only later.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from balsam.model.wire import Topic

_SUFFIX = ".bell"
_serial = count()


@contextmanager
def _short_path(directory: Path) -> Iterator[str]:
    """Give a name for *directory* that is short enough for a socket's address (108 bytes)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class Bell:
    """A watch that wakes when `ring` is called for the same directory on this machine."""

    def __init__(self, directory: Path, topic: Topic) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._path = directory / f"{os.getpid()}-{next(_serial)}.{topic}{_SUFFIX}"
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with _short_path(directory) as short:
            self._socket.bind(f"{short}/{self._path.name}")
        self._path.chmod(0o600)

    @property
    def name(self) -> str:
        return self._path.name

    def fileno(self) -> int:
        return self._socket.fileno()

    def wait(self, timeout: float) -> bool:
        heard = bool(select.select([self._socket], [], [], max(0.0, timeout))[0])
        self.clear()
        return heard

    def clear(self) -> None:
        try:
            while True:
                self._socket.recv(16)
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)


def ring(directory: Path, topics: Collection[Topic], but: Iterable[str] = ()) -> None:
    """Wake every bell for *topics* *but* those named; remove those whose process is gone.

    Never fails: what is told of has happened already.
    """
    suffixes = tuple(f".{topic}{_SUFFIX}" for topic in topics)
    try:
        names = {name for name in os.listdir(directory) if name.endswith(suffixes)}.difference(but)
        if names:
            _send(directory, names)
    except OSError:
        pass


def _send(directory: Path, names: Iterable[str]) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender,
        _short_path(directory) as short,
    ):
        for name in names:
            try:
                sender.sendto(b"!", f"{short}/{name}")
            except (ConnectionRefusedError, FileNotFoundError):
                (directory / name).unlink(missing_ok=True)
            except OSError:
                pass  # full of bells already, or another user's
