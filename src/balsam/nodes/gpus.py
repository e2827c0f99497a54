"""Find the GPUs of this machine, as the kernel shows them.

Sources: /proc/driver/nvidia of NVIDIA's driver 470 and later, CUDA C++ Programming Guide
(CUDA_VISIBLE_DEVICES); the kernel's amdkfd topology in sysfs, ROCm (ROCR_VISIBLE_DEVICES); i915
and xe in sysfs, oneAPI Level Zero 1.9 (ZE_AFFINITY_MASK, ZE_FLAT_DEVICE_HIERARCHY).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from balsam.nodes.kernel_files import names_in, read_cpus, read_text

#: What shows a program the devices that it may use, by vendor.
VARIABLES = {
    "nvidia": "CUDA_VISIBLE_DEVICES",
    "amd": "ROCR_VISIBLE_DEVICES",
    "intel": "ZE_AFFINITY_MASK",
}
#: How long nvidia-smi may take to tell what there is.
SMI_SECONDS = 60.0
#: Where Intel's processors have their own graphics, which no job is meant to run on.
_INTEGRATED = "0000:00:02.0"


class Device(NamedTuple):
    """One GPU, or one tile of one."""

    name: str  #: as the vendor's variable takes it
    cpus: tuple[int, ...]  #: those nearest to it; () when not known
    identity: str = ""  #: another name that the variable takes


def find_gpus(root: str = "", environ: Mapping[str, str] = os.environ) -> tuple[str, list[Device]]:
    """Return the vendor and the GPUs that we may use; '' and none when there are none.

    Where the vendor's variable is set, as by a batch system that gave us some of the GPUs,
    these are the ones. Of several vendors the first of nvidia, amd and intel that has any
    counts.

    Parameters
    ----------
    root
        Where `proc`, `sys` and `dev` are, without a slash at its end.
    """
    for vendor, find in (("nvidia", _nvidia), ("amd", _amd), ("intel", _intel)):
        devices = find(root, environ)
        if devices:
            return vendor, _visible(devices, environ.get(VARIABLES[vendor]))
    return "", []


def _visible(devices: list[Device], value: str | None) -> list[Device]:
    """Return the devices that *value* of the vendor's variable shows."""
    if value is None:
        return devices
    known = {name: device for device in devices for name in (device.name, device.identity) if name}
    shown = []
    for word in filter(None, (word.strip() for word in value.split(","))):
        if word in known:
            shown.append(Device(word, known[word].cpus))
        elif "-" in word[1:]:  # by identity, or a part of a device (MIG-…)
            shown.append(Device(word, ()))
        else:
            # A device with tiles is given whole; what is not there ends the list, as for CUDA.
            tiles = [device for device in devices if device.name.startswith(f"{word}.")]
            if not tiles:
                break
            shown += tiles
    return shown


def _nvidia(root: str, environ: Mapping[str, str]) -> list[Device]:
    """Return the devices in the order of their PCI addresses, as CUDA is told to number them."""
    there = {name[6:] for name in names_in(f"{root}/dev") if name.startswith("nvidia")}
    directory = f"{root}/proc/driver/nvidia/gpus"
    found = []
    for address in sorted(names_in(directory), key=str.lower):
        facts = dict(_facts(f"{directory}/{address}/information", ":"))
        # In a container there may be the nodes of some only.
        if facts.get("Device Minor", "") in there or "Device Minor" not in facts:
            found.append((address.lower(), facts.get("GPU UUID", "")))
    if not found:
        numbers = [name for name in there if name.isdecimal()]
        if not numbers and not os.path.isdir(directory):
            return _ask_nvidia_smi(root, environ)
        return [Device(str(i), ()) for i in range(len(numbers))]
    return [
        Device(str(i), _near(root, address), identity)
        for i, (address, identity) in enumerate(found)
    ]


def _ask_nvidia_smi(root: str, environ: Mapping[str, str]) -> list[Device]:
    """Return the devices that nvidia-smi tells of, where the kernel shows none (WSL)."""
    if not os.path.exists(f"{root}/dev/dxg"):
        return []
    import subprocess

    words = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            words,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SMI_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if answer.returncode:
        return []
    rows = [line.split(",") for line in answer.stdout.splitlines() if "," in line]
    return [Device(index.strip(), (), identity.strip()) for index, identity in rows]


def _amd(root: str, environ: Mapping[str, str]) -> list[Device]:
    """Return the devices in the order of the kernel's nodes; others than ours cannot be read."""
    directory = f"{root}/sys/class/kfd/kfd/topology/nodes"
    devices: list[Device] = []
    for node in sorted(filter(str.isdecimal, names_in(directory)), key=int):
        facts = dict(_facts(f"{directory}/{node}/properties", " "))
        if int(facts.get("simd_count", "0")) > 0:
            place, domain = int(facts.get("location_id", "0")), int(facts.get("domain", "0"))
            address = f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"
            devices.append(Device(str(len(devices)), _near(root, address)))
    return devices


def _intel(root: str, environ: Mapping[str, str]) -> list[Device]:
    """Return the devices by PCI address, each tile for itself: "0.1", or numbered flat."""
    directory = f"{root}/sys/class/drm"
    found: dict[str, int] = {}
    for card in names_in(directory):
        if not (card.startswith("card") and card[4:].isdecimal()):
            continue
        if read_text(f"{directory}/{card}/device/vendor") != "0x8086":
            continue
        address = os.path.basename(os.path.realpath(f"{directory}/{card}/device"))
        tiles = [name for name in names_in(f"{directory}/{card}/gt") if name.startswith("gt")]
        tiles += [
            name for name in names_in(f"{directory}/{card}/device") if name.startswith("tile")
        ]
        if address != _INTEGRATED:
            found[address] = max(1, len(tiles))
    devices: list[Device] = []
    flat = environ.get("ZE_FLAT_DEVICE_HIERARCHY", "COMPOSITE").upper() != "COMPOSITE"
    for i, (address, count) in enumerate(sorted(found.items())):
        for tile in range(count):
            number = str(len(devices)) if flat else str(i)
            name = number if flat or count == 1 else f"{number}.{tile}"
            devices.append(Device(name, _near(root, address)))
    return devices


def _near(root: str, address: str) -> tuple[int, ...]:
    """Return the CPUs nearest to the PCI device at *address*."""
    return read_cpus(f"{root}/sys/bus/pci/devices/{address}/local_cpulist")


def _facts(file: str, separator: str) -> Iterable[tuple[str, str]]:
    for line in read_text(file).splitlines():
        name, _, value = line.partition(separator)
        yield name.strip(), value.strip()
