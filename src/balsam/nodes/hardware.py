"""Read what this machine has, as far as this process may use it.

Workers import and do this on every node at once: it imports little, reads what the kernel
shows, and starts a program only where the kernel shows nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from balsam.errors import InvalidInput
from balsam.model.cpus import cpu_numbers
from balsam.model.resources import NodeResources
from balsam.nodes.gpus import Device, find_gpus
from balsam.nodes.kernel_files import names_in, read_cpus, read_text
from balsam.nodes.profile import Profile


def this_node(
    *,
    cores: int = 0,
    gpus: int = -1,
    memory_mib: int = 0,
    profile: Profile | None = None,
    sysfs: str = "/",
    environ: Mapping[str, str] = os.environ,
) -> NodeResources:
    """Return this machine's resources.

    Cores are in the order of their NUMA domains. They have no CPU numbers, and jobs are then
    not bound to any, when they are pretended, and where a control group limits not which CPUs
    we have but how much of their time: with others bound to the same numbers, all would share
    the first few.

    Parameters
    ----------
    cores, gpus, memory_mib
        Count these instead of what is found; 0, and -1 GPUs, count what is found.
    profile
        What is known of the machine: cores of the system, GPUs, their order and nearest CPUs.
    sysfs
        Where `proc`, `sys` and `dev` are.
    environ
        What is searched for the GPUs that a batch system gave us, and for `nvidia-smi`.

    Raises
    ------
    InvalidInput
        The profile leaves no core.
    """
    root = sysfs.rstrip("/")
    host = os.uname().nodename
    found, threads = _cores(root, profile, host)
    count = len(found)
    limit = _cpu_limit(root)
    if cores:
        count, threads, found = cores, cores, []
    elif limit is not None and limit < threads:
        count, threads, found = min(count, limit), limit, []
    vendor, devices = _arranged(*find_gpus(root, environ), profile)
    if gpus >= 0:
        vendor = vendor or ("nvidia" if gpus else "")
        if gpus <= len(devices):
            devices = devices[:gpus]
        else:
            devices = [Device(str(i), ()) for i in range(gpus)]
    return NodeResources(
        host=host,
        cores=count,
        threads=threads,
        memory_mib=memory_mib or find_memory_mib(root),
        gpus=tuple(device.name for device in devices),
        gpu_vendor=vendor if devices else "",
        core_cpus=tuple(found),
        gpu_cores=_nearest_cores(found, devices),
    )


# cores ------------------------------------------------------------------------------------


def _cores(root: str, profile: Profile | None, host: str) -> tuple[list[tuple[int, ...]], int]:
    """Return the CPUs of each core that we may use, and how many they are."""
    ours = (
        os.sched_getaffinity(0)
        if not root
        else set(read_cpus(f"{root}/sys/devices/system/cpu/online"))
    )
    domains = _domains(root)
    cores: dict[tuple[int, ...], None] = {}
    for cpu in sorted(ours):
        topology = f"{root}/sys/devices/system/cpu/cpu{cpu}/topology"
        siblings = read_cpus(f"{topology}/thread_siblings_list") or (cpu,)
        cores[tuple(each for each in siblings if each in ours)] = None
    reserved = set(cpu_numbers(profile.reserved_cpus)) if profile else set()
    left = [core for core in cores if not reserved & set(core)]
    if profile and not left:
        raise InvalidInput(
            f"profile {profile.name!r} reserves all CPUs that we may use on {host}"
            f" ({profile.reserved_cpus}); set nodes.profile to that of this machine, or to 'none'"
        )
    left.sort(key=lambda core: (domains.get(core[0], 0), core))
    return left, sum(map(len, left))


def _domains(root: str) -> dict[int, int]:
    """Return the NUMA domain of each CPU."""
    directory = f"{root}/sys/devices/system/node"
    domains: dict[int, int] = {}
    for name in names_in(directory):
        if name.startswith("node") and name[4:].isdecimal():
            for cpu in read_cpus(f"{directory}/{name}/cpulist"):
                domains[cpu] = int(name[4:])
    return domains


def _nearest_cores(
    cores: list[tuple[int, ...]], devices: list[Device]
) -> tuple[tuple[int, ...], ...]:
    """Return for each GPU the positions of its nearest cores; () when no GPU tells."""
    if not cores or not any(device.cpus for device in devices):
        return ()
    position = {cpu: i for i, core in enumerate(cores) for cpu in core}
    return tuple(
        tuple(sorted({position[cpu] for cpu in device.cpus if cpu in position}))
        for device in devices
    )


def _arranged(
    vendor: str, devices: list[Device], profile: Profile | None
) -> tuple[str, list[Device]]:
    """Return the GPUs in the profile's order, with its nearest CPUs, as far as they are there."""
    if profile is None or not profile.gpus or profile.gpu_vendor != vendor:
        return vendor, devices
    there = {device.name for device in devices}
    known = [Device(g.device, cpu_numbers(g.cpus)) for g in profile.gpus if g.device in there]
    # Some are named otherwise, by identity perhaps: then what was found counts.
    return vendor, known if len(known) == len(devices) else devices


# control groups, memory -------------------------------------------------------------------


def _groups(root: str, controller: str) -> list[str]:
    """Return the directories of our control group and of those above it, ours first.

    Version 2 has all controllers in one tree, version 1 one tree each; some machines have both.
    """
    groups = []
    for line in read_text(f"{root}/proc/self/cgroup").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            tops = [f"{root}/sys/fs/cgroup", f"{root}/sys/fs/cgroup/unified"]
        elif controller in controllers.split(","):
            tops = [f"{root}/sys/fs/cgroup/{controllers}", f"{root}/sys/fs/cgroup/{controller}"]
        else:
            continue
        parts = [part for part in path.split("/") if part]
        for top in dict.fromkeys(tops):
            # In a container the path may be the host's, and only the top be there.
            groups += ["/".join([top, *parts[:n]]) for n in range(len(parts), -1, -1)]
    return groups


def _cpu_limit(root: str) -> int | None:
    """Return how many CPUs' time the control groups give us, at least 1; None for all."""
    limits = []
    for group in _groups(root, "cpu"):
        words = read_text(f"{group}/cpu.max").split() or [
            read_text(f"{group}/cpu.cfs_quota_us"),
            read_text(f"{group}/cpu.cfs_period_us"),
        ]
        if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):
            limits.append(max(1, int(words[0]) // int(words[1])))
    return min(limits, default=None)


def find_memory_mib(root: str = "") -> int:
    """Return the memory that can be used: the machine's, or the control groups' if less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for line in read_text(f"{root}/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = read_text(f"{group}/{name}")
            if text.isdecimal():
                total = min(total, int(text))
    return total // 2**20
