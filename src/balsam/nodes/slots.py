"""What is free on one node: cores, GPUs and memory. Pure arithmetic on whole units."""

from __future__ import annotations

import msgspec

from balsam.model.resources import UNITS, NodeResources, Request
from balsam.nodes.gpus import VARIABLES


class Taken(msgspec.Struct, frozen=True):
    """Resources taken from one node, to be given back as they are."""

    core_units: int
    memory_mib: int
    gpus: tuple[tuple[int, int], ...] = ()  #: (position of the device, units)
    cores: tuple[int, ...] = ()  #: which ones; () when they are shared, or not to be told apart


class Slots:
    """The free resources of one node.

    Cores are counted in units, and where whole ones are asked for also told apart, so that
    jobs can be bound to them. Jobs that share cores (`node_packing_count`) are not bound; beside
    them there may be fewer free cores to tell apart than units say, and others are not bound.
    """

    def __init__(self, node: NodeResources) -> None:
        self.node = node
        self.core_units = node.cores * UNITS
        self.memory_mib = node.memory_mib
        self.gpu_units = [UNITS] * len(node.gpus)
        self._cores = list(range(node.cores))  # those free, ascending

    def copy(self) -> Slots:
        """Return the same, to try things on."""
        other = Slots.__new__(Slots)
        other.node, other.core_units, other.memory_mib = (
            self.node,
            self.core_units,
            self.memory_mib,
        )
        other.gpu_units, other._cores = list(self.gpu_units), list(self._cores)
        return other

    @property
    def idle(self) -> bool:
        """Nothing is taken."""
        return self.core_units == self.node.cores * UNITS

    def take(self, request: Request, like: Taken | None = None) -> Taken | None:
        """Take what one job of *request* needs, or nothing and return None.

        Parameters
        ----------
        like
            What the job has on another node: the same devices must be free here, for all its
            ranks are told of the same.
        """
        gpus = self._choose_gpus(request) if like is None else self._same_gpus(like)
        cores = request.core_units(self.node.cores)
        if cores > self.core_units or request.memory_mib > self.memory_mib or gpus is None:
            return None
        self.core_units -= cores
        self.memory_mib -= request.memory_mib
        for position, units in gpus:
            self.gpu_units[position] -= units
        wanted = like.cores if like else ()
        return Taken(cores, request.memory_mib, gpus, self._choose_cores(cores, gpus, wanted))

    def _same_gpus(self, like: Taken) -> tuple[tuple[int, int], ...] | None:
        count = len(self.gpu_units)
        free = all(i < count and self.gpu_units[i] >= units for i, units in like.gpus)
        return like.gpus if free else None

    def has_room(self, request: Request) -> bool:
        """Tell whether `take` would find what one job of *request* needs."""
        return (
            request.core_units(self.node.cores) <= self.core_units
            and request.memory_mib <= self.memory_mib
            and self._choose_gpus(request) is not None
        )

    def _choose_cores(
        self, units: int, gpus: tuple[tuple[int, int], ...], wanted: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Take whole cores out of the free ones: those *wanted*, or near the GPUs, first."""
        count, rest = divmod(units, UNITS)
        if rest or count > len(self._cores):
            return ()
        near = set(wanted)
        if not near and gpus and self.node.gpu_cores:
            near.update(*(self.node.gpu_cores[position] for position, _ in gpus))
        chosen = sorted(self._cores, key=lambda core: core not in near)[:count]
        if near:
            self._cores = [core for core in self._cores if core not in set(chosen)]
        else:
            del self._cores[:count]
        return tuple(sorted(chosen))

    def _choose_gpus(self, request: Request) -> tuple[tuple[int, int], ...] | None:
        """Choose devices for each rank: whole ones, or a share of the fullest that has room."""
        if not request.gpus_per_rank:
            return ()
        share = round(request.gpus_per_rank * UNITS)
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
        if taken.cores:
            self._cores = sorted((*self._cores, *taken.cores))

    def cpus(self, taken: Taken, threads_per_core: int) -> list[int]:
        """Return the numbers of the hardware threads to bind a program to; [] for none."""
        threads = self.node.core_cpus
        if not threads:
            return []
        return [cpu for core in taken.cores for cpu in threads[core][:threads_per_core]]

    def environ(self, taken: Taken) -> dict[str, str]:
        """Return the variables that show a program the devices it may use, and no others."""
        if not self.node.gpus:
            return {}
        variable = VARIABLES[self.node.gpu_vendor or "nvidia"]
        devices = [self.node.gpus[position] for position, _ in taken.gpus]
        environ = {variable: ",".join(devices)}
        if variable == "CUDA_VISIBLE_DEVICES":
            environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        if variable == "ZE_AFFINITY_MASK" and any("." in device for device in devices):
            # "device.tile", counted in the order of the bus.
            environ |= {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}
            environ |= {"ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1"}
        return environ
