"""Read what this machine has, as far as this process may use it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from balsam.model.resources import NodeResources


def this_node(gpus: int | None = None) -> NodeResources:
    """Return this machine's resources.

    Parameters
    ----------
    gpus
        Number of GPUs to assume instead of those found.
    """
    threads = len(os.sched_getaffinity(0))
    vendor, found = find_gpus()
    indices = tuple(str(i) for i in range(gpus)) if gpus is not None else found
    return NodeResources(
        host=socket.gethostname(),
        cores=min(threads, _physical_cores()),
        threads=threads,
        memory_mib=memory_mib(),
        gpus=indices,
        gpu_vendor=vendor or ("nvidia" if indices else ""),
    )


def _physical_cores() -> int:
    """Return the number of physical cores among the processors we may use."""
    cores: set[str] = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def memory_mib() -> int:
    """Return the memory that can be used: the machine's, or the control group's if less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue
    return total // 2**20


def find_gpus() -> tuple[str, tuple[str, ...]]:
    """Return the GPUs' vendor and device indices, read from the kernel (no vendor tool needed)."""
    nvidia = sorted(
        int(device.name[6:])
        for device in Path("/dev").glob("nvidia[0-9]*")
        if device.name[6:].isdigit()
    )
    if nvidia:
        return "nvidia", tuple(str(i) for i in range(len(nvidia)))
    amd = [
        node
        for node in Path("/sys/class/kfd/kfd/topology/nodes").glob("*")
        if _property(node / "properties", "simd_count")
    ]
    if amd:
        return "amd", tuple(str(i) for i in range(len(amd)))
    return "", ()


def _property(file: Path, name: str) -> int:
    try:
        for line in file.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except OSError:
        pass
    return 0
