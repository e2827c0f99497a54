"""What this machine has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from balsam.errors import InvalidInput
from balsam.model.cpus import cpu_numbers
from balsam.model.resources import NodeResources
from balsam.nodes import profile
from balsam.nodes.hardware import find_memory_mib, this_node
from tests.unit import machines

# here -------------------------------------------------------------------------------------


def test_this_node_is_what_we_may_use() -> None:
    node = this_node()
    assert node.host == socket.gethostname()
    assert 1 <= node.cores <= node.threads <= len(os.sched_getaffinity(0))
    assert 0 < node.memory_mib <= psutil.virtual_memory().total // 2**20
    assert {cpu for core in node.core_cpus for cpu in core} <= os.sched_getaffinity(0)
    assert len(node.core_cpus) in (0, node.cores)


def test_cores_are_counted_within_the_affinity() -> None:
    """In a batch job or a container we may have less than the machine."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        node = this_node()
    finally:
        os.sched_setaffinity(0, before)
    assert (node.cores, node.threads) == (1, 1)
    assert node.core_cpus in ((), ((max(before),),))


@pytest.mark.parametrize("count", [0, 1, 4])
def test_gpus_can_be_pretended(count: int) -> None:
    node = this_node(gpus=count)
    assert node.gpus == tuple(map(str, range(count)))
    assert bool(node.gpu_vendor) is (count > 0)


def test_cores_and_memory_can_be_pretended() -> None:
    node = this_node(cores=48, memory_mib=7)
    assert (node.cores, node.memory_mib, node.core_cpus) == (48, 7, ())


def test_the_import_is_light() -> None:
    """A thousand nodes do it at the same time, from one file system."""
    code = (
        "import sys, msgspec; before = set(sys.modules);"
        "import balsam.nodes.hardware, balsam.model.resources;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    words = [sys.executable, "-S", "-c", code]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    answer = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    assert set(answer.stdout.split()) <= {"balsam", "__future__"}


# other machines ---------------------------------------------------------------------------


def node_of(root: Path, name: str = "", **given: object) -> NodeResources:
    given.setdefault("environ", {})
    known = profile.load(name) if name else None
    return this_node(sysfs=str(root), profile=known, **given)  # type: ignore[arg-type]


def near(node: NodeResources, gpu: str) -> set[int]:
    """Return the CPUs of the cores nearest to *gpu*."""
    cores = node.gpu_cores[node.gpus.index(gpu)]
    return {cpu for core in cores for cpu in node.core_cpus[core]}


@pytest.mark.parametrize("name", ["", "polaris"])
def test_polaris(tmp_path: Path, name: str) -> None:
    node = node_of(machines.polaris(tmp_path), name)
    assert (node.cores, node.threads, node.memory_mib) == (32, 64, 512 * 1024)
    assert node.core_cpus[:2] == ((0, 32), (1, 33))
    assert (node.gpu_vendor, sorted(node.gpus)) == ("nvidia", ["0", "1", "2", "3"])
    assert near(node, "0") == set(cpu_numbers("24-31,56-63"))
    assert near(node, "3") == set(cpu_numbers("0-7,32-39"))
    if name:
        assert node.gpus == ("3", "2", "1", "0"), "that of the first cores comes first"


def test_frontier(tmp_path: Path) -> None:
    root = machines.frontier(tmp_path)
    node = node_of(root)
    assert (node.cores, node.gpu_vendor, len(node.gpus)) == (64, "amd", 8)
    assert near(node, "4") == set(cpu_numbers("0-15,64-79")), "what the bus tells"
    node = node_of(root, "frontier")
    assert (node.cores, node.threads) == (56, 112)
    assert node.core_cpus[0] == (1, 65)
    assert node.gpus == ("4", "5", "2", "3", "6", "7", "0", "1")
    assert near(node, "4") == set(cpu_numbers("1-7,65-71")), "what OLCF tells"


def test_aurora(tmp_path: Path) -> None:
    root = machines.aurora(tmp_path)
    tiles = tuple(f"{gpu}.{tile}" for gpu in range(6) for tile in range(2))
    assert node_of(root).gpus == tiles
    node = node_of(root, "aurora")
    assert (node.cores, node.gpu_vendor, node.gpus) == (102, "intel", tiles)
    assert near(node, "3.0") == set(cpu_numbers("53-60,157-164"))
    flat = node_of(root, "aurora", environ={"ZE_FLAT_DEVICE_HIERARCHY": "FLAT"})
    assert flat.gpus == tuple(map(str, range(12)))
    assert 53 in near(flat, "6")


def test_a_laptop(tmp_path: Path) -> None:
    """Graphics of the processor are no GPU for jobs."""
    node = node_of(machines.laptop(tmp_path), "laptop")
    assert (node.cores, node.threads, node.gpus) == (4, 8, ())
    assert node.core_cpus == ((0, 1), (2, 3), (4, 5), (6, 7))


def test_cores_are_in_the_order_of_their_domains(tmp_path: Path) -> None:
    machines.cpus(tmp_path, 4, ["0,2", "1,3"], threads=1)
    assert node_of(tmp_path).core_cpus == ((0,), (2,), (1,), (3,))


def test_a_profile_that_leaves_no_core_is_not_that_of_the_machine(tmp_path: Path) -> None:
    machines.cpus(tmp_path, 1, ["0"], threads=1)
    with pytest.raises(InvalidInput, match=r"'aurora' reserves all CPUs .*set nodes\.profile"):
        node_of(tmp_path, "aurora")


# some of a machine ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "gpus"),
    [
        ("0,1", ("0", "1")),
        ("3,0", ("3", "0")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("1,7,2", ("1",)),
        ("GPU-00000002-aaaa", ("GPU-00000002-aaaa",)),
        ("MIG-1/2/3", ("MIG-1/2/3",)),
    ],
)
def test_gpus_that_a_batch_system_gave_us(
    tmp_path: Path, value: str, gpus: tuple[str, ...]
) -> None:
    node = node_of(machines.polaris(tmp_path), environ={"CUDA_VISIBLE_DEVICES": value})
    assert node.gpus == gpus
    if gpus == ("GPU-00000002-aaaa",):
        assert near(node, gpus[0]) == set(cpu_numbers("8-15,40-47"))


def test_of_some_gpus_those_are_in_the_profile_s_order(tmp_path: Path) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert node_of(machines.polaris(tmp_path), "polaris", environ=environ).gpus == ("1", "0")


def test_a_whole_gpu_is_all_its_tiles(tmp_path: Path) -> None:
    environ = {"ZE_AFFINITY_MASK": "1,2.1"}
    assert node_of(machines.aurora(tmp_path), environ=environ).gpus == ("1.0", "1.1", "2.1")


def test_gpus_whose_devices_are_not_in_the_container_do_not_count(tmp_path: Path) -> None:
    root = machines.polaris(tmp_path)
    (root / "dev/nvidia0").unlink()
    node = node_of(root)
    assert (node.gpus, near(node, "0")) == (("0", "1", "2"), set(cpu_numbers("16-23,48-55")))


def test_fewer_gpus_than_there_are_can_be_counted(tmp_path: Path) -> None:
    root = machines.polaris(tmp_path)
    assert node_of(root, "polaris", gpus=2).gpus == ("3", "2")
    more = node_of(root, gpus=6)
    assert (more.gpus, more.gpu_vendor, more.gpu_cores) == (tuple("012345"), "nvidia", ())


def test_devices_alone_are_gpus_too(tmp_path: Path) -> None:
    machines.cpus(tmp_path, 2, ["0-1"], threads=1)
    machines.write(tmp_path, {"dev/nvidia0": "", "dev/nvidia1": "", "dev/nvidia-caps": ""})
    node = node_of(tmp_path)
    assert (node.gpu_vendor, node.gpus, node.gpu_cores) == ("nvidia", ("0", "1"), ())


@pytest.mark.parametrize(
    ("script", "gpus"),
    [("echo '0, GPU-1'; echo '1, GPU-2'", ("0", "1")), ("echo 'No devices'; exit 9", ())],
)
def test_nvidia_smi_is_asked_where_the_kernel_shows_nothing(
    tmp_path: Path, script: str, gpus: tuple[str, ...]
) -> None:
    machines.cpus(tmp_path, 2, ["0-1"], threads=1)
    machines.write(tmp_path, {"dev/dxg": "", "bin/nvidia-smi": f"#!/bin/sh\n{script}"})
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    assert node_of(tmp_path, environ={"PATH": f"{tmp_path}/bin"}).gpus == gpus


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 32),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "350000 100000"}, 3),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "6400000 100000"}, 32),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            32,
        ),
    ],
)
def test_control_groups_limit_the_time_of_cpus(
    tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    machines.write(machines.polaris(tmp_path), files)
    node = node_of(tmp_path)
    assert (node.cores, node.threads) == (cores, cores if cores < 32 else 64)
    assert bool(node.core_cpus) is (cores == 32), "which CPUs are ours, a limit does not say"


@pytest.mark.parametrize(
    ("files", "mib"),
    [
        ({}, 512 * 1024),
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/memory.max": "max"}, 512 * 1024),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/memory.max": "1073741824"}, 1024),
        (
            {
                "proc/self/cgroup": "0::/\n7:memory:/job_1/step_0",
                "sys/fs/cgroup/memory/job_1/memory.limit_in_bytes": "2147483648",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            2048,
        ),
    ],
)
def test_control_groups_limit_memory(tmp_path: Path, files: dict[str, str], mib: int) -> None:
    machines.write(machines.polaris(tmp_path), files)
    assert find_memory_mib(str(tmp_path)) == mib
