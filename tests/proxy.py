"""A proxy before a PostgreSQL server that cuts connections where a test wants it.

It understands as much of the wire protocol (PostgreSQL 15 manual, 55.7) as it takes to count what
clients wait for: their requests. Connections must be made without TLS and GSS.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

#: Messages that the server answers, and nothing is done for good without: Query, Sync, CopyDone.
_REQUESTS = b"QSc"


class Cut(NamedTuple):
    """Where to cut: at the client's request *number*, counted from 1."""

    number: int
    #: Forward the request and drop the answer; else drop the request itself.
    after: bool


class Proxy:
    """Listens on a free port of 127.0.0.1 and connects to *port* there.

    `count` is the number of requests that clients sent since `cut_at`, log-ins not counted.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._lock = threading.Lock()
        self._cut: Cut | None = None
        self._links: set[_Link] = set()
        self._refusing = self._for_good = False
        self.count = 0
        self.cuts = 0  #: how often it cut in all
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut_at(self, cut: Cut | None, *, for_good: bool = False) -> None:
        """Count from 0 again, and cut once at *cut*; *for_good*: then refuse (see `refuse`)."""
        with self._lock:
            self._cut, self.count = cut, 0
            self._for_good = for_good

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
        """Count a request; return the cut that is due at it."""
        if kind not in _REQUESTS:
            return None
        with self._lock:
            self.count += 1
            if self._cut is None or self.count != self._cut.number:
                return None
            found, self._cut = self._cut, None
            self._refusing = self._for_good
            self.cuts += 1
            return found

    def forget(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)


class _Link:
    """One connection: a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
