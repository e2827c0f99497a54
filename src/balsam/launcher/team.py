"""The nodes of a launcher, and how their workers are started."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

import msgspec

from balsam.config import NodesSettings
from balsam.launcher import starters
from balsam.launcher.starters import Starter
from balsam.nodes import discover, profile
from balsam.nodes.profile import Profile

#: Sources of nodes that no batch system gave.
HERE, GIVEN = "this machine", "--nodes"


class Team(NamedTuple):
    """The nodes of a launcher, and how their workers are started."""

    hosts: tuple[str, ...]
    source: str  #: who gave them: a batch system, 'this machine', '--nodes'
    starter: Starter
    settings: NodesSettings
    profile: Profile | None

    @property
    def is_batch(self) -> bool:
        """Whether a batch system's start commands know of these nodes."""
        return self.source not in (HERE, GIVEN)


def find_team(
    settings: NodesSettings,
    *,
    nodes: str = "",
    limit: int = 0,
    offset: int = 0,
    gpus: int | None = None,
) -> Team:
    """Return the nodes to use.

    Parameters
    ----------
    nodes
        Hosts, or a file with hosts; '' for those of the allocation, or this machine.
    limit, offset
        Use so many of them (0: all), without the first ones.
    gpus
        GPUs to count on each instead of what *settings* say.

    Raises
    ------
    InvalidInput
        There is no such node, profile or start command.
    """
    machine = profile.choose(settings.profile, os.environ, socket.gethostname())
    if nodes:
        hosts, source = discover.parse_hosts(nodes), GIVEN
    else:
        apart = machine is not None and machine.batch_host_apart
        hosts, source = msgspec.structs.astuple(discover.discover(batch_host_apart=apart))
    hosts = discover.select(hosts, limit or None, offset)
    start = settings.start
    if start == "auto" and machine is not None:
        start = machine.start
    if gpus is not None:
        settings = msgspec.structs.replace(settings, gpus=gpus)
    return Team(hosts, source, starters.choose(start, source, hosts), settings, machine)
