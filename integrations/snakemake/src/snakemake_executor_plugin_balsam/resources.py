"""From Snakemake's threads and resources to what a Balsam job asks of its node."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from balsam.errors import InvalidResources

#: Names that users and other plugins have for GPUs.
GPUS = ("gpu", "gpus", "nvidia_gpu", "amd_gpu")
#: Snakemake's megabytes are of a million bytes.
MIB_PER_MB = 1e6 / 2**20


def job_fields(threads: int, resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Balsam job for *threads* and *resources* of a Snakemake job.

    Balsam starts one process, Snakemake, which runs the rule. It gets the cores of all that the
    rule starts: an MPI rule starts its ``tasks`` itself.

    Raises
    ------
    InvalidResources
        It asks for several nodes.
    """
    nodes = _number(resources, "nodes") or 1
    if nodes > 1:
        raise InvalidResources(
            f"nodes={nodes:g}: a rule gets one node from Balsam, and starts its MPI program there;"
            " leave `nodes` out"
        )
    tasks = _number(resources, "tasks") or _number(resources, "tasks_per_node") or 1
    cores = max(1, math.ceil(threads * tasks))
    memory = _number(resources, "mem_mb") or cores * _number(resources, "mem_mb_per_cpu")
    gpus = next((count for name in GPUS if (count := _number(resources, name))), 0.0)
    return {
        "threads_per_rank": cores,
        "memory_mib": math.ceil(memory * MIB_PER_MB),
        "gpus_per_rank": float(gpus),
        "wall_time_minutes": float(_number(resources, "runtime")),
    }


def _number(resources: Mapping[str, Any], name: str) -> float:
    """Return a resource, 0 when it is not set or not known before the input is there."""
    value = resources.get(name)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return 0
    return value if isinstance(value, int | float) else 0
