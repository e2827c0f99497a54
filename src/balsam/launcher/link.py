"""The head's end of the links to its workers.

ZeroMQ with CURVE: every launch makes its own keys, and only a worker that was given the
launch's secret is let in. On a shared machine an open port that runs commands is a hole.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

import zmq
from zmq.auth.thread import ThreadAuthenticator

from balsam.launcher.messages import PROTOCOL, Beat, Done, Hello, ToWorker, encoder, to_head
from balsam.nodes.this_host import is_this_host

#: Other hosts that are asked how this one is reached from there.
MOST_ASKED = 8


class Keys(NamedTuple):
    """What a worker needs to be let in."""

    server: str
    public: str
    secret: str


class _OnlyOurs:
    """Lets in whoever proves to have this launch's worker key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def callback(self, _domain: str, key: bytes) -> bool:
        return key == self._key


class Link:
    """What is known of the link to one spawner."""

    __slots__ = ("answered", "heard_at", "number", "route")

    def __init__(self, route: bytes) -> None:
        self.route = route
        self.heard_at = time.monotonic()  #: when its last message came
        self.number = 0  #: of that
        self.answered = -1  #: up to which number it was told that it is heard


class Links:
    """Listens for workers and passes messages.

    Parameters
    ----------
    hosts
        Where the workers are: none but this machine's can connect when they are all here.
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        self._context = zmq.Context()
        self._auth = ThreadAuthenticator(self._context)
        self._auth.start()
        public, secret = zmq.curve_keypair()
        worker_public, worker_secret = zmq.curve_keypair()
        self.keys = Keys(public.decode(), worker_public.decode(), worker_secret.decode())
        self._auth.configure_curve_callback("*", _OnlyOurs(worker_public))
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.curve_server = True
        self.socket.curve_publickey = public
        self.socket.curve_secretkey = secret
        self.socket.router_mandatory = True
        self.socket.linger = 1000
        self.socket.sndhwm = self.socket.rcvhwm = 0  # bounded by what a worker is given
        others = [host for host in hosts if not is_this_host(host)]
        address = "0.0.0.0" if others else "127.0.0.1"
        port = self.socket.bind_to_random_port(f"tcp://{address}")
        #: Where workers find us: the first address that answers from their node is used.
        self.endpoints = [f"tcp://{each}:{port}" for each in _addresses(others)]
        self._links: dict[str, Link] = {}
        self._names: dict[bytes, str] = {}

    def receive(self) -> list[tuple[str, Hello | Done]]:
        """Return the messages that have come, each with the name of its link.

        A link is told apart from a later one of the same node by its process id.
        """
        found: list[tuple[str, Hello | Done]] = []
        while True:
            try:
                route, frame = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return found
            message = to_head.decode(frame)
            if isinstance(message, Hello):
                if message.protocol == PROTOCOL:
                    name = f"{message.node.host}/{message.pid}"
                    self._links[name], self._names[route] = Link(route), name
                    found.append((name, message))
                continue
            name = self._names.get(route, "")
            link = self._links.get(name)
            if link is not None:
                link.heard_at, link.number = time.monotonic(), message.number
                found.append((name, message))

    def send(self, name: str, message: ToWorker) -> None:
        """Send to a spawner; nothing happens when it is gone: its loss is noticed elsewhere."""
        link = self._links.get(name)
        if link is None:
            return
        try:
            self.socket.send_multipart([link.route, encoder.encode(message)])
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise

    def broadcast(self, message: ToWorker) -> None:
        for name in self._links:
            self.send(name, message)

    def beat(self, now: float) -> None:
        """Tell all that were heard since the last beat that we are alive.

        No others: a worker that we do not hear must come to end itself, though it hears us.
        """
        for name, link in self._links.items():
            if link.number != link.answered:
                link.answered = link.number
                self.send(name, Beat(link.number, now))

    def __contains__(self, name: str) -> bool:
        return name in self._links

    def __getitem__(self, name: str) -> Link:
        return self._links[name]

    def forget(self, name: str) -> None:
        """Hear nothing more of a spawner."""
        link = self._links.pop(name, None)
        if link is not None:
            self._names.pop(link.route, None)

    def close(self) -> None:
        self.socket.close()
        self._auth.stop()
        self._context.term()


def _addresses(others: list[str]) -> list[str]:
    """Return the addresses of this machine by which *others* may reach it, likely ones first."""
    if not others:
        return ["127.0.0.1"]
    found = [address for host in others[:MOST_ASKED] if (address := _towards(host))]
    try:
        own = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET, socket.SOCK_DGRAM)
        found += [str(address[0]) for *_, address in own]
    except OSError:
        pass
    return [each for each in dict.fromkeys(found) if not each.startswith("127.")] or ["127.0.0.1"]


def _towards(host: str) -> str | None:
    """Return the address that this machine has on its way to *host*; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])
