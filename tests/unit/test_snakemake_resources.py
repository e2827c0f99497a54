"""What a job of Snakemake asks of its node, as fields of a Balsam job.

The module is loaded by its path: its package needs Snakemake, which is elsewhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balsam.errors import InvalidResources
from balsam.model.job import Job

SOURCE = (
    *("integrations", "snakemake", "src"),
    *("snakemake_executor_plugin_balsam", "resources.py"),
)


@pytest.fixture(scope="module")
def job_fields() -> Callable[..., dict[str, Any]]:
    path = Path(__file__).parents[2].joinpath(*SOURCE)
    spec = importlib.util.spec_from_file_location("snakemake_resources", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., dict[str, Any]] = module.job_fields
    return found


@pytest.mark.parametrize(
    ("threads", "resources", "expected"),
    [
        (1, {}, {}),
        (4, {"mem_mb": 1000}, {"threads_per_rank": 4, "memory_mib": 954}),
        (4, {"mem_mb_per_cpu": 100}, {"threads_per_rank": 4, "memory_mib": 382}),
        (2, {"mpi": "mpiexec", "tasks": 8}, {"threads_per_rank": 16}),
        (1, {"mpi": "mpiexec", "tasks_per_node": 4, "nodes": 1}, {"threads_per_rank": 4}),
        (1, {"runtime": 90}, {"wall_time_minutes": 90.0}),
        (1, {"gpu": 2}, {"gpus_per_rank": 2.0}),
        (1, {"nvidia_gpu": 1, "gpu": 0}, {"gpus_per_rank": 1.0}),
        (1, {"mem_mb": "<TBD>", "runtime": "30"}, {"wall_time_minutes": 30.0}),
    ],
)
def test_resources_become_fields(
    job_fields: Callable[..., dict[str, Any]],
    threads: int,
    resources: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    found = job_fields(threads, resources)
    assert Job(**found) == Job(**expected)


def test_several_nodes_are_refused(job_fields: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(InvalidResources, match="nodes=2: a rule gets one node"):
        job_fields(1, {"mpi": "srun", "nodes": 2, "tasks": 64})
