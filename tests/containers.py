"""A real container runtime for tests: podman, with images made of programs of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

#: What is in the image.
PROGRAMS = ("/bin/sh", "/bin/bash", "/bin/sleep", "/usr/bin/env", "/usr/bin/id")
#: Lets podman run as root without systemd and without the right to raise limits.
_CONTAINERS = """\
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "none"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""


def require() -> None:
    """Without podman, fail in continuous integration, and skip elsewhere."""
    missing = [name for name in ("podman", "runc") if not shutil.which(name)]
    if missing or os.getuid():
        reason = f"needs root and {', '.join(missing)} (Debian: apt-get install podman runc)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def make_image(directory: Path) -> None:
    """Make a directory that is a container image: a root with `PROGRAMS`, and nothing else."""
    for name in ("dev", "etc", "proc", "sys", "tmp", "run"):
        (directory / name).mkdir(parents=True)
    (directory / "etc" / "in-the-image").touch()
    for program in PROGRAMS:
        real = os.path.realpath(program)
        listed = subprocess.run(["ldd", real], capture_output=True, text=True, check=True)
        for source, target in [(real, program), *((f, f) for f in _files(listed.stdout))]:
            place = Path(f"{directory}{target}")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(os.path.realpath(source), place)


def _files(listed: str) -> set[str]:
    return set(re.findall(r"(/\S+\.so\S*)", listed))


def environ(directory: Path) -> dict[str, str]:
    """Return the variables with which podman keeps all it writes in *directory*."""
    config, storage = directory / "containers.conf", directory / "storage.conf"
    config.write_text(_CONTAINERS)
    kept = f'runroot = "{directory}/run"\ngraphroot = "{directory}/graph"\n'
    storage.write_text(f'[storage]\ndriver = "vfs"\n{kept}')
    return {"CONTAINERS_CONF": str(config), "CONTAINERS_STORAGE_CONF": str(storage)}
