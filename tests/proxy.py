"""A proxy before a PostgreSQL server that cuts connections where a test wants it.

It understands as much of the wire protocol (PostgreSQL 15 manual, 55.7) as it takes to count the
client's messages. Connections must be made without TLS and GSS.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

#: Messages that the server answers: Query, Sync, CopyDone.
_ANSWERED = b"QSc"


class Cut(NamedTuple):
    """Where to cut: at the client's message *number*, counted from 1."""

    number: int
    #: Forward the message and drop the answer; else drop the message itself.
    after: bool


class Proxy:
    """Listens on a free port of 127.0.0.1 and connects to *port* there.

    `count` is the number of messages that clients sent since `cut_at`, log-ins not counted.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._lock = threading.Lock()
        self._cut: Cut | None = None
        self._links: set[_Link] = set()
        self._refusing = False
        self.count = 0
        self.kinds = b""  #: the type of each message since `cut_at`
        self.cuts = 0  #: how often it cut in all
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut_at(self, cut: Cut | None) -> None:
        """Count from 0 again, and cut once at *cut*."""
        with self._lock:
            self._cut, self.count, self.kinds = cut, 0, b""

    def cut_all(self) -> int:
        """Cut all connections there are; return how many."""
        with self._lock:
            links, self._links = self._links, set()
            self.cuts += len(links)
        for link in links:
            link.close()
        return len(links)

    def refuse(self, refusing: bool) -> None:
        """Let nobody connect, until told otherwise; who is connected stays."""
        self._refusing = refusing

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be a server that cannot be reached."""
        self.refuse(True)
        self.cut_all()
        yield
        self.refuse(False)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                client.close()
                continue
            link = _Link(self, client, server)
            with self._lock:
                self._links.add(link)
            link.start()

    def decide(self, kind: bytes) -> Cut | None:
        """Count a message; return the cut that is due at it."""
        with self._lock:
            self.count += 1
            self.kinds += kind
            if self._cut is None or self.count != self._cut.number:
                return None
            found, self._cut = self._cut, None
            self.cuts += 1
            return found

    def forget(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)


class _Link:
    """One connection: a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._dropping = False  #: the next answer

    def start(self) -> None:
        for work in (self._upwards, self._downwards):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        for end in (self._client, self._server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def _upwards(self) -> None:
        try:
            self._server.sendall(self._read(4, is_length=True))  # the log-in has no type
            while True:
                kind = self._read(1)
                message = kind + self._read(4, is_length=True)
                cut = self._proxy.decide(kind)
                if cut is not None:
                    if not cut.after:
                        break
                    self._dropping = True
                    self._server.sendall(message)
                    if kind not in _ANSWERED:
                        break
                    continue
                self._server.sendall(message)
        except (OSError, EOFError):
            pass
        self._proxy.forget(self)
        self.close()

    def _read(self, count: int, *, is_length: bool = False) -> bytes:
        """Return *count* bytes, with those that they announce when they are a length."""
        found = b""
        while len(found) < count:
            more = self._client.recv(count - len(found))
            if not more:
                raise EOFError
            found += more
        return found + self._read(int.from_bytes(found) - 4) if is_length else found

    def _downwards(self) -> None:
        try:
            while data := self._server.recv(65536):
                if self._dropping:
                    break
                self._client.sendall(data)
        except OSError:
            pass
        self._proxy.forget(self)
        self.close()
