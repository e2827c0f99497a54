"""What is free on one node: cores, GPUs and memory. Pure arithmetic on whole units."""

from __future__ import annotations

import msgspec

from balsam.model.resources import UNITS, NodeResources, Request

_VISIBLE = {
    "nvidia": "CUDA_VISIBLE_DEVICES",
    "amd": "ROCR_VISIBLE_DEVICES",
    "intel": "ZE_AFFINITY_MASK",
}


class Taken(msgspec.Struct, frozen=True):
    """Resources taken from one node, to be given back as they are."""

    core_units: int
    memory_mib: int
    gpus: tuple[tuple[int, int], ...] = ()  #: (position of the device, units)


class Slots:
    """The free resources of one node."""

    def __init__(self, node: NodeResources) -> None:
        self.node = node
        self.core_units = node.cores * UNITS
        self.memory_mib = node.memory_mib
        self.gpu_units = [UNITS] * len(node.gpus)

    @property
    def idle(self) -> bool:
        """Nothing is taken."""
        return self.core_units == self.node.cores * UNITS

    def capacity(self, request: Request) -> int:
        """Return how many jobs of *request* the empty node can hold at once."""
        cores = request.core_units(self.node.cores)
        counts = [self.node.cores * UNITS // cores]
        if request.gpu_units:
            share = round(request.gpus_per_rank * UNITS)
            whole = -(-request.gpu_units // UNITS) if share >= UNITS else None
            per_device = UNITS // share if share < UNITS else 0
            ranks = request.ranks_per_node
            counts.append(
                len(self.node.gpus) // whole if whole else len(self.node.gpus) * per_device // ranks
            )
        if request.memory_mib:
            counts.append(self.node.memory_mib // request.memory_mib)
        return min(counts)

    def take(self, request: Request) -> Taken | None:
        """Take what one job of *request* needs, or nothing and return None."""
        cores = request.core_units(self.node.cores)
        if cores > self.core_units or request.memory_mib > self.memory_mib:
            return None
        gpus = self._choose_gpus(request)
        if gpus is None:
            return None
        self.core_units -= cores
        self.memory_mib -= request.memory_mib
        for position, units in gpus:
            self.gpu_units[position] -= units
        return Taken(cores, request.memory_mib, gpus)

    def _choose_gpus(self, request: Request) -> tuple[tuple[int, int], ...] | None:
        """Choose devices for each rank: whole ones, or a share of the fullest that has room."""
        share = round(request.gpus_per_rank * UNITS)
        if not share:
            return ()
        free = list(self.gpu_units)
        chosen: dict[int, int] = {}
        for _ in range(request.ranks_per_node):
            left = share
            while left:
                need = min(left, UNITS)
                room = [(units, i) for i, units in enumerate(free) if units >= need]
                if not room:
                    return None
                _, position = min(room)
                free[position] -= need
                chosen[position] = chosen.get(position, 0) + need
                left -= need
        return tuple(sorted(chosen.items()))

    def give_back(self, taken: Taken) -> None:
        self.core_units += taken.core_units
        self.memory_mib += taken.memory_mib
        for position, units in taken.gpus:
            self.gpu_units[position] += units

    def environ(self, taken: Taken) -> dict[str, str]:
        """Return the variables that show a program the devices it may use, and no others."""
        if not self.node.gpus:
            return {}
        variable = _VISIBLE[self.node.gpu_vendor or "nvidia"]
        devices = ",".join(self.node.gpus[position] for position, _ in taken.gpus)
        environ = {variable: devices}
        if variable == "CUDA_VISIBLE_DEVICES":
            environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        return environ
