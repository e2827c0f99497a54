"""A relay before a server, which counts what the server sends, and cuts the connection there."""

from __future__ import annotations

import socket
import threading


class Relay:
    """Listens on a free port of 127.0.0.1 and connects to *port* there."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.sent = 0  #: bytes that the server has sent
        self.cut_after: int | None = None  #: cut once when it has sent so many
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            for work in (self._upwards, self._downwards):
                threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _upwards(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            pass
        _end(client, server)

    def _downwards(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                self.sent += len(data)
                if self.cut_after is not None and self.sent >= self.cut_after:
                    self.cut_after = None
                    break
                client.sendall(data)
        except OSError:
            pass
        _end(client, server)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        end.close()
