"""What one start of a parallel program is told, and what each of its ranks gets. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from balsam.model.cpus import cpu_text

#: What shows a program its GPUs. A batch system's own start command may set it anew.
DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")


class Start(NamedTuple):
    """What one start of a parallel program needs to be told."""

    ranks: int
    ranks_per_node: int
    threads_per_rank: int
    flags: str  #: the site's and the user's own words
    environ: Mapping[str, str]  #: to be there in every rank
    threads_per_core: int = 1
    cpu_affinity: str = ""  #: a word of `balsam.model.affinity`
    gpus_per_rank: float = 0.0
    #: Where to, in order, and first the one where the start command itself runs; (): only there.
    hosts: tuple[str, ...] = ()
    cpus: Sequence[int] = ()  #: granted on each node, in order; (): ranks are not bound
    ssh: tuple[str, ...] = ("ssh",)  #: with its options, for those that start daemons by it
    in_allocation: bool = False  #: of a batch system, which the start command may know itself

    @property
    def nodes(self) -> int:
        return max(1, len(self.hosts), -(-self.ranks // self.ranks_per_node))

    @property
    def cores_per_rank(self) -> int:
        return max(1, self.threads_per_rank // self.threads_per_core)

    def shares(self) -> list[Sequence[int]]:
        """Return the CPUs to bind each rank of a node to, by local rank; [] to bind none."""
        ranks = self.ranks_per_node
        if not self.cpus or self.cpu_affinity == "none":
            return []
        each = len(self.cpus) // ranks
        if self.cpu_affinity == "job" or not each:
            return [self.cpus] * ranks
        return [self.cpus[rank * each : (rank + 1) * each] for rank in range(ranks)]

    def cpu_lists(self) -> list[str]:
        """Return `shares` as texts, ``0-3,8``."""
        return [cpu_text(share) for share in self.shares()]

    def masks(self) -> list[str]:
        """Return `shares` as hexadecimal masks."""
        return [hex(sum(1 << cpu for cpu in share)) for share in self.shares()]

    def devices(self) -> tuple[str, list[str]]:
        """Return the variable that shows GPUs, and its value for each local rank; '' for none.

        Ranks that share GPUs are spread evenly over those of their node.
        """
        variable = next((name for name in DEVICES if name in self.environ), "")
        if not variable:
            return "", []
        given = [device for device in self.environ[variable].split(",") if device]
        ranks = self.ranks_per_node
        if self.gpus_per_rank >= 1 and len(given) >= ranks * int(self.gpus_per_rank):
            each = int(self.gpus_per_rank)
            parts = [given[rank * each : (rank + 1) * each] for rank in range(ranks)]
            return variable, [",".join(part) for part in parts]
        if 0 < self.gpus_per_rank < 1 and given:
            return variable, [given[rank * len(given) // ranks] for rank in range(ranks)]
        return variable, [",".join(given)] * ranks


def for_each_rank(start: Start, local_rank: str, *, bind: bool, show: bool) -> list[str]:
    """Return the words that give a rank its CPUs and GPUs and then become its program.

    Parameters
    ----------
    local_rank
        An arithmetic expression of the shell.
    bind, show
        Whether CPUs, and GPUs, are to be given here. GPUs are also where ranks differ in them.
    """
    cpus = start.cpu_lists() if bind else []
    variable, devices = start.devices()
    if not show and len(set(devices)) < 2:
        variable = ""
    if not cpus and not variable:
        return []
    lines = [f"i=$(({local_rank}))", 'pick() { shift "$i"; echo "$1"; }']
    if variable:
        lines.append(f"export {variable}=$(pick {shlex.join(devices)})")
    if cpus:
        run = f'exec taskset -c "$(pick {shlex.join(cpus)})" "$@"'
        lines.append(f"if command -v taskset >/dev/null; then {run}; fi")
    lines.append('exec "$@"')
    return ["/bin/sh", "-c", "; ".join(lines), "rank"]
