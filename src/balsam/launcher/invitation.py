"""How a worker finds and trusts its head: a file that only the user can read.

It lies in the site, which all nodes see, and goes with the launcher. It carries the launcher's
environment, too: what a start command gives a worker on another node is little (ssh), or
describes that command's own step (srun, mpiexec), and is nothing for the programs of jobs.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec

from balsam.model.resources import NodeResources
from balsam.nodes.hardware import this_node
from balsam.nodes.profile import Profile
from balsam.nodes.this_host import find_this_host

#: What a worker's own environment knows better than the launcher's.
OWN_VARIABLES = (b"HOSTNAME", b"SLURMD_NODENAME", b"TMPDIR")
#: Seconds for one address of the head to answer, before the next is tried.
CONNECT_SECONDS = 5.0
#: Cores for each process that starts others: one starts some 2,000 a second.
CORES_PER_SPAWNER, MOST_SPAWNERS = 32, 4


class Invitation(msgspec.Struct, kw_only=True):
    """What a worker is told before it can be spoken to."""

    endpoints: list[str]  #: the head's addresses: the first that answers is used
    server_key: str  #: CURVE public key of the head
    public_key: str  #: this launch's worker keys
    secret_key: str
    hosts: list[str]  #: the nodes' names in the allocation
    environ: dict[bytes, bytes]
    stream_prefix: str  #: directory of the stream files
    words_prefix: str  #: directory for what could not be told
    silence_seconds: float  #: without word from the head, then the worker ends
    # instead of what is found on the node
    cores: int = 0
    gpus: int = -1
    memory_mib: int = 0
    profile: Profile | None = None

    def this_node(self, host: str | None) -> NodeResources:
        """Return what this node has, under its name in the allocation.

        Parameters
        ----------
        host
            That name, when it is known.
        """
        name = host or find_this_host(self.hosts) or socket.gethostname()
        node = this_node(
            cores=self.cores, gpus=self.gpus, memory_mib=self.memory_mib, profile=self.profile
        )
        return msgspec.structs.replace(node, host=name)

    def spawners_on(self, node: NodeResources) -> int:
        """Return how many processes the node's worker has."""
        return max(1, min(MOST_SPAWNERS, node.cores // CORES_PER_SPAWNER))

    def endpoint(self) -> str:
        """Return the first of the head's addresses that answers from here."""
        for endpoint in self.endpoints[:-1]:
            host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
            try:
                socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
            except OSError:
                continue
            return endpoint
        return self.endpoints[-1]

    def enter_environ(self) -> None:
        """Make the launcher's environment this process's."""
        own = {name: os.environb[name] for name in OWN_VARIABLES if name in os.environb}
        os.environb.clear()
        os.environb.update(self.environ | own)

    def last_words_file(self, host: str, spawner: int) -> str:
        return last_words_file(self.words_prefix, host, spawner)


def last_words_file(prefix: str, host: str, spawner: int) -> str:
    """Return where a spawner leaves what it could not tell."""
    return f"{prefix}/{host}-{spawner}.words"


def write_invitation(invitation: Invitation, path: Path) -> None:
    """Write *invitation* into a new file that only its owner can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(msgspec.msgpack.encode(invitation))


def read_invitation(path: str) -> Invitation:
    with open(path, "rb") as file:
        return msgspec.msgpack.decode(file.read(), type=Invitation)
