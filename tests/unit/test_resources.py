"""Requests: what they need of a node, what is refused, what does not fit."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.errors import InvalidInput, InvalidResources
from balsam.model.resources import UNITS, NodeResources, Request

NODE = NodeResources(host="n1", cores=8, threads=16, memory_mib=1000, gpus=("0", "1"))


@pytest.mark.parametrize(
    ("fields", "cores"),
    [
        ({}, 1),
        ({"threads_per_rank": 4}, 4),
        ({"threads_per_rank": 4, "threads_per_core": 2}, 2),
        ({"threads_per_rank": 3, "threads_per_core": 2}, 1),
        ({"threads_per_core": 4}, 1),
        ({"ranks_per_node": 3, "threads_per_rank": 2}, 6),
        ({"ranks_per_node": 3, "cores_per_rank": 2, "threads_per_rank": 7}, 6),
    ],
)
def test_cores_on_a_node(fields: dict[str, Any], cores: int) -> None:
    request = Request(**fields)
    request.check()
    assert request.cores_per_node == cores
    assert request.core_units(64) == cores * UNITS


def test_packed_jobs_take_their_share_of_the_node() -> None:
    request = Request(node_packing_count=4, threads_per_rank=100)
    assert request.core_units(8) == 2 * UNITS
    assert Request(node_packing_count=3).core_units(8) * 3 <= 8 * UNITS


@given(count=st.integers(1, 16))
def test_fractions_of_a_gpu_add_up_exactly(count: int) -> None:
    assert Request(gpus_per_rank=1 / count).gpu_units * count <= UNITS + count // 2
    assert Request(gpus_per_rank=0.1).gpu_units * 10 == UNITS


@pytest.mark.parametrize(
    ("fields", "serial"),
    [
        ({}, True),
        ({"threads_per_rank": 8, "gpus_per_rank": 1.0}, True),
        ({"ranks_per_node": 2}, False),
        ({"num_nodes": 2}, False),
    ],
)
def test_serial_is_one_process(fields: dict[str, Any], serial: bool) -> None:
    assert Request(**fields).is_serial is serial


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_nodes", 0),
        ("num_nodes", -1),
        ("num_nodes", 100_001),
        ("ranks_per_node", 0),
        ("ranks_per_node", 10_001),
        ("threads_per_rank", 0),
        ("threads_per_core", 0),
        ("node_packing_count", 0),
        ("node_packing_count", UNITS + 1),
        ("cores_per_rank", -1),
        ("gpus_per_rank", -0.5),
        ("gpus_per_rank", math.nan),
        ("gpus_per_rank", math.inf),
        ("gpus_per_rank", 0.5 / UNITS),
        ("memory_mib", -1),
        ("memory_mib", 10**9),
    ],
)
def test_impossible_requests_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InvalidResources, match=f"^{field} is ") as caught:
        Request(**{field: value}).check()  # type: ignore[arg-type]
    assert isinstance(caught.value, InvalidInput)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "fields",
    [{"num_nodes": 100_000}, {"node_packing_count": UNITS}, {"gpus_per_rank": 1 / UNITS}],
)
def test_the_limits_themselves_are_taken(fields: dict[str, Any]) -> None:
    Request(**fields).check()


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, ""),
        ({"threads_per_rank": 8}, ""),
        ({"threads_per_rank": 9}, "needs 9 cores on a node, n1 has 8"),
        ({"threads_per_rank": 16, "threads_per_core": 2}, ""),
        ({"threads_per_rank": 9, "node_packing_count": 2}, ""),
        ({"gpus_per_rank": 2.0}, ""),
        ({"gpus_per_rank": 0.5, "ranks_per_node": 4}, ""),
        ({"gpus_per_rank": 0.7, "ranks_per_node": 3}, "needs 2.1 GPUs on a node, n1 has 2"),
        ({"memory_mib": 1000}, ""),
        ({"memory_mib": 1001}, "needs 1001 MiB on a node, n1 has 1000 MiB"),
    ],
)
def test_shortage_says_what_is_missing(fields: dict[str, Any], part: str) -> None:
    assert NODE.shortage(Request(**fields)) == part
