"""Trees of /proc, /sys and /dev as some machines have them, for what reads hardware."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write(root: Path, files: dict[str, str]) -> None:
    """Write *files*, by their paths below *root*."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")


def cpus(root: Path, cores: int, domains: Sequence[str], threads: int = 2, step: int = 0) -> None:
    """Write cores with *threads* each, numbered apart by *step* (default: all first ones first)."""
    for core in range(cores):
        numbers = [core + i * (step or cores) for i in range(threads)]
        if step == 1:
            numbers = [core * threads + i for i in range(threads)]
        siblings = ",".join(map(str, numbers))
        for number in numbers:
            name = f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
            write(root, {name: siblings})
    write(root, {"sys/devices/system/cpu/online": f"0-{cores * threads - 1}"})
    write(root, {f"sys/devices/system/node/node{i}/cpulist": d for i, d in enumerate(domains)})
    write(root, {"proc/meminfo": "MemFree: 1 kB\nMemTotal:   536870912 kB"})


def pci(root: Path, address: str, near: str) -> Path:
    """Write a device on the bus."""
    write(root, {f"sys/bus/pci/devices/{address}/local_cpulist": near})
    return root / "sys/bus/pci/devices" / address


def polaris(root: Path) -> Path:
    """One EPYC 7543P, four A100 (from the user guide; /proc as driver 535 has it)."""
    domains = ["0-7,32-39", "8-15,40-47", "16-23,48-55", "24-31,56-63"]
    cpus(root, 32, domains)
    for minor, address in enumerate(
        ["0000:07:00.0", "0000:46:00.0", "0000:85:00.0", "0000:C7:00.0"]
    ):
        pci(root, address.lower(), domains[3 - minor])
        facts = (
            "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 178\n"
            f"GPU UUID: \t GPU-0000000{minor}-aaaa\nBus Location: \t {address}\n"
            f"Device Minor: \t {minor}"
        )
        write(root, {f"proc/driver/nvidia/gpus/{address}/information": facts})
        write(root, {f"dev/nvidia{minor}": ""})
    write(root, {"dev/nvidiactl": "", "dev/nvidia-uvm": ""})
    return root


def frontier(root: Path) -> Path:
    """One EPYC 7A53, four MI250X: eight GPUs, whose domain the bus tells, not their L3 region."""
    domains = [f"{n}-{n + 15},{n + 64}-{n + 79}" for n in (0, 16, 32, 48)]
    cpus(root, 64, domains)
    nodes = "sys/class/kfd/kfd/topology/nodes"
    for node in range(4):
        write(root, {f"{nodes}/{node}/properties": "cpu_cores_count 32\nsimd_count 0"})
    buses = [0xC1, 0xC6, 0xC9, 0xCE, 0xD1, 0xD6, 0xD9, 0xDE]
    near = [3, 3, 1, 1, 0, 0, 2, 2]
    for i, (bus, domain) in enumerate(zip(buses, near, strict=True)):
        pci(root, f"0000:{bus:02x}:00.0", domains[domain])
        facts = f"simd_count 440\nlocation_id {bus << 8}\ndomain 0"
        write(root, {f"{nodes}/{4 + i}/properties": facts})
    return root


def aurora(root: Path) -> Path:
    """Two Xeon Max 9470C, six GPUs of two tiles, and a console's graphics of another vendor."""
    domains = ["0-51,104-155", "52-103,156-207"]
    cpus(root, 104, domains)
    for card, bus in enumerate([0x18, 0x42, 0x6C, 0x18, 0x42, 0x6C]):
        address = f"{card // 3:04x}:{bus:02x}:00.0"
        device = pci(root, address, domains[card // 3])
        write(root, {f"sys/bus/pci/devices/{address}/vendor": "0x8086"})
        for tile in range(2):
            write(root, {f"sys/class/drm/card{card + 1}/gt/gt{tile}/id": str(tile)})
        (root / f"sys/class/drm/card{card + 1}/device").symlink_to(device)
    write(root, {"sys/class/drm/card0/device/vendor": "0x1a03"})
    write(root, {"sys/class/drm/renderD128/device/vendor": "0x8086"})
    return root


def laptop(root: Path) -> Path:
    """Four cores with threads side by side, and the processor's own graphics."""
    cpus(root, 4, ["0-7"], step=1)
    device = pci(root, "0000:00:02.0", "0-7")
    write(root, {"sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086"})
    (root / "sys/class/drm/card1").mkdir(parents=True)
    (root / "sys/class/drm/card1/device").symlink_to(device)
    return root
