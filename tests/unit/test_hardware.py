"""What this machine has."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import pytest

from balsam.nodes.hardware import find_gpus, memory_mib, this_node


def test_this_node_is_what_we_may_use() -> None:
    node = this_node()
    assert node.host == socket.gethostname()
    assert node.threads == len(os.sched_getaffinity(0))
    assert 1 <= node.cores <= node.threads
    assert 0 < node.memory_mib <= psutil.virtual_memory().total // 2**20


def test_cores_are_counted_within_the_affinity() -> None:
    """In a batch job or a container we may have less than the machine."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert (this_node().cores, this_node().threads) == (1, 1)
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_gpus_can_be_assumed(count: int) -> None:
    node = this_node(count)
    assert node.gpus == tuple(map(str, range(count)))
    assert bool(node.gpu_vendor) is (count > 0)


def test_gpus_that_are_found_are_named_as_the_vendor_s_variable_takes_them() -> None:
    vendor, gpus = find_gpus()
    devices = [d for d in Path("/dev").glob("nvidia[0-9]*") if d.name[6:].isdigit()]
    if devices:
        assert (vendor, len(gpus)) == ("nvidia", len(devices))
    assert bool(vendor) is bool(gpus)
    assert this_node().gpus == gpus


def test_memory_is_not_more_than_the_control_group_has() -> None:
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    if text != "max":
        assert memory_mib() <= int(text) // 2**20
    assert memory_mib() > 0
