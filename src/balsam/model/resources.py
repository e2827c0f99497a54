"""What a job asks of its nodes, and what a node has.

Cores and GPUs are counted in whole *units* so that fractions add up exactly: one core or
one device is `UNITS` units.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from balsam.errors import InvalidResources

UNITS = 10_000
#: Larger requests are typing errors on any machine that exists.
MOST = {"num_nodes": 100_000, "ranks_per_node": 10_000, "node_packing_count": UNITS}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Resources of one job. Equal requests form a class that is placed together."""

    num_nodes: int = 1
    ranks_per_node: int = 1
    threads_per_rank: int = 1
    threads_per_core: int = 1
    cores_per_rank: int = 0  #: 0: threads_per_rank / threads_per_core
    gpus_per_rank: float = 0.0
    memory_mib: int = 0  #: a node; 0: not counted
    node_packing_count: int = 1  #: above 1: the job takes 1/n of a node
    cpu_affinity: str = ""  #: how its processes are bound to cores; see `mpi.commands`

    @property
    def is_serial(self) -> bool:
        """One process on one node, started without MPI."""
        return self.num_nodes == 1 and self.ranks_per_node == 1

    @property
    def cores_per_node(self) -> int:
        """Whole cores on each node (at least 1), before node packing."""
        if self.cores_per_rank:
            return self.ranks_per_node * self.cores_per_rank
        return max(1, self.ranks_per_node * self.threads_per_rank // self.threads_per_core)

    def core_units(self, node_cores: int) -> int:
        """Return core units taken on a node with *node_cores* cores."""
        if self.node_packing_count > 1:
            return node_cores * UNITS // self.node_packing_count
        return self.cores_per_node * UNITS

    def all_core_units(self, node_cores: int) -> int:
        """Return core units taken on all its nodes, each with *node_cores* cores."""
        return self.num_nodes * self.core_units(node_cores)

    @property
    def gpu_units(self) -> int:
        """GPU units on each node."""
        return round(self.gpus_per_rank * self.ranks_per_node * UNITS)

    def check(self) -> None:
        """Raise `InvalidResources` when no machine could meet the request."""
        for field in (
            "num_nodes",
            "ranks_per_node",
            "threads_per_rank",
            "threads_per_core",
            "node_packing_count",
        ):
            value = getattr(self, field)
            if value < 1:
                raise InvalidResources(f"{field} is {value}; it must be 1 or more")
            if value > MOST.get(field, 10_000):
                most = MOST.get(field, 10_000)
                raise InvalidResources(f"{field} is {value}; the most is {most}")
        for field in ("cores_per_rank", "gpus_per_rank", "memory_mib"):
            value = getattr(self, field)
            if not 0 <= value < 1e9:  # also refuses NaN
                raise InvalidResources(f"{field} is {value}; it must be 0 or more")
        if self.gpus_per_rank > 1 and self.gpus_per_rank % 1:
            raise InvalidResources(
                f"gpus_per_rank is {self.gpus_per_rank}; above 1 it must be a whole number"
            )
        if 0 < self.gpus_per_rank < 1 / UNITS:
            raise InvalidResources(
                f"gpus_per_rank is {self.gpus_per_rank}; the smallest share is {1 / UNITS}"
            )


class NodeResources(msgspec.Struct, frozen=True, kw_only=True):
    """What one node has. `cores` are physical cores this process may use."""

    host: str
    cores: int
    threads: int
    memory_mib: int
    gpus: tuple[str, ...] = ()  #: device indices as the vendor's variable takes them
    gpu_vendor: str = ""  #: nvidia, amd, intel or ''
    #: Of each core, the kernel's numbers of its hardware threads, by NUMA domain; () when the
    #: cores are pretended: jobs are then not bound to any.
    core_cpus: tuple[tuple[int, ...], ...] = ()
    #: Of each GPU, the positions in `core_cpus` of the cores nearest to it; () when not known.
    gpu_cores: tuple[tuple[int, ...], ...] = ()

    @property
    def summary(self) -> str:
        """What a person wants to know of it."""
        vendor = f" ({self.gpu_vendor})" if self.gpus and self.gpu_vendor else ""
        threads = f" of {self.threads} threads" if self.threads > self.cores else ""
        return f"{self.cores} cores{threads}, {len(self.gpus)} GPUs{vendor}, {self.memory_mib} MiB"

    def shortage(self, request: Request) -> str:
        """Return why *request* can never run on a node like this one, or ''."""
        if request.node_packing_count == 1 and request.cores_per_node > self.cores:
            return f"needs {request.cores_per_node} cores on a node, {self.host} has {self.cores}"
        gpus = len(self.gpus)
        if request.gpu_units > gpus * UNITS:
            need = request.gpus_per_rank * request.ranks_per_node
            return f"needs {need:g} GPUs on a node, {self.host} has {gpus}"
        sharing = -(-request.ranks_per_node // gpus) if gpus else 0  # on the fullest device
        if request.gpus_per_rank < 1 and request.gpus_per_rank * sharing >= 1 + 0.5 / UNITS:
            shares = f"{request.ranks_per_node} shares of {request.gpus_per_rank:g} GPU"
            return f"needs {shares} on a node; the {gpus} GPUs of {self.host} cannot hold so many"
        if request.memory_mib > self.memory_mib:
            return (
                f"needs {request.memory_mib} MiB on a node, {self.host} has {self.memory_mib} MiB"
            )
        return ""


def capacity(nodes: Collection[NodeResources]) -> str:
    """Return what *nodes* have together, in one line."""
    cores, gpus = sum(n.cores for n in nodes), sum(len(n.gpus) for n in nodes)
    return f"{len(nodes)} are there, with {cores} cores, {gpus} GPUs"
