"""The head's end of the links to its workers.

ZeroMQ with CURVE: every launch makes its own keys, and only a worker that was given the
launch's secret is let in. On a shared machine an open port that runs commands is a hole.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from subprocess import PIPE, Popen
from typing import Any

import msgspec
import zmq
from zmq.auth.thread import ThreadAuthenticator

from balsam.launcher.messages import PROTOCOL, Done, Hello, ToWorker, encoder, to_head
from balsam.launcher.worker import Invitation
from balsam.model.resources import NodeResources


class _OnlyOurs:
    """Lets in whoever proves to have this launch's worker key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def callback(self, _domain: str, key: bytes) -> bool:
        return key == self._key


class Links:
    """Listens for workers, starts the one of this machine, and passes messages."""

    def __init__(self, stream_directory: str, now: Callable[[], float]) -> None:
        self._stream_directory = stream_directory
        self._now = now
        self._context = zmq.Context()
        self._auth = ThreadAuthenticator(self._context)
        self._auth.start()
        public, secret = zmq.curve_keypair()
        self._worker_public, self._worker_secret = zmq.curve_keypair()
        self._auth.configure_curve_callback("*", _OnlyOurs(self._worker_public))
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.curve_server = True
        self.socket.curve_publickey = public
        self.socket.curve_secretkey = secret
        self.socket.router_mandatory = True
        self.socket.linger = 1000
        self._public = public
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self._endpoint = f"tcp://127.0.0.1:{port}"
        self._routes: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}

    def start_worker(
        self, node: NodeResources, name: str, environ: dict[str, str], errors: Any
    ) -> Popen[bytes]:
        """Start the worker of this machine; its own errors go to the file *errors*."""
        invitation = Invitation(
            endpoint=self._endpoint,
            server_key=self._public.decode(),
            public_key=self._worker_public.decode(),
            secret_key=self._worker_secret.decode(),
            node=node,
            stream_prefix=f"{self._stream_directory}/{name}",
            clock=self._now() - time.monotonic(),
        )
        process = Popen(
            # UTF-8, whatever the locale: names of jobs and their arguments are.
            [sys.executable, "-X", "utf8", "-m", "balsam.launcher.worker"],
            stdin=PIPE,
            stderr=errors,
            env=os.environ | environ,
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(invitation))
        process.stdin.close()
        return process

    def receive(self) -> list[tuple[str, Hello | Done]]:
        """Return the messages that have come, each with the name of its worker."""
        found: list[tuple[str, Hello | Done]] = []
        while True:
            try:
                route, frame = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return found
            message = to_head.decode(frame)
            if isinstance(message, Hello) and message.protocol == PROTOCOL:
                name = f"{message.node.host}:{message.pid}"
                self._routes[name], self._names[route] = route, name
            name = self._names.get(route, "")
            if name:
                found.append((name, message))

    def send(self, worker: str, message: ToWorker) -> None:
        """Send to a worker; nothing happens when it is gone: its loss is noticed elsewhere."""
        try:
            self.socket.send_multipart([self._routes[worker], encoder.encode(message)])
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise

    def broadcast(self, message: ToWorker) -> None:
        for worker in list(self._routes):
            self.send(worker, message)

    def forget(self, worker: str) -> None:
        route = self._routes.pop(worker, None)
        if route is not None:
            self._names.pop(route, None)

    def close(self) -> None:
        self.socket.close()
        self._auth.stop()
        self._context.term()
