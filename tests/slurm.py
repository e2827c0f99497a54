"""A real Slurm on hosts of its own, where the recipe for it stands beside the project."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

#: Facts about setting up real systems; they stand beside the project where there are any.
RECIPES = Path(__file__).parents[2] / "shared" / "recipes"


class Slurm:
    """Hosts h1, h2, …, the controller on the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {**os.environ, "SLURM_CONF": str(path / "slurm.conf")}

    def on(self, number: int, argv: Sequence[object]) -> list[str]:
        """Return the words that run *argv* on a host."""
        return [f"{self.path}.net/on", str(number), *map(str, argv)]

    def run(self, *argv: object) -> str:
        """Run one of Slurm's commands on the first host; return what it wrote."""
        done = subprocess.run(
            self.on(1, argv), env=self.environ, capture_output=True, text=True, timeout=120
        )
        return done.stdout + done.stderr


@contextmanager
def cluster(count: int, **settings: str) -> Iterator[Slurm]:
    """Start a Slurm of *count* hosts; *settings* are those of the recipe (CPUS, GPUS, …)."""
    if not (RECIPES / "slurm-up.sh").exists() or not Path("/usr/sbin/slurmctld").exists():
        pytest.skip("there is no recipe for Slurm here, or no Slurm (`apt-get install slurm-wlm`)")
    if os.geteuid():
        pytest.skip("only root can make hosts")
    path = Path("/tmp") / f"balsam-slurm-{os.getpid()}"  # Slurm's sockets need a short path
    # Namespaces have names for all of the machine; BALSAM_HOME is for what one test starts.
    environ = {name: value for name, value in os.environ.items() if name != "BALSAM_HOME"}
    environ |= {"NETNS": "1", "PREFIX": f"balsam{os.getpid()}h", **settings}
    subprocess.run([RECIPES / "slurm-up.sh", str(count), path], env=environ, check=True)
    try:
        yield Slurm(path)
    finally:
        subprocess.run([RECIPES / "slurm-down.sh", path], env=environ, check=True)
        shutil.rmtree(path)
        shutil.rmtree(f"{path}.net")
