"""A real Slurm on hosts of its own, where the recipe for it stands beside the project."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

#: Facts about setting up real systems; they stand beside the project where there are any.
RECIPES = Path(__file__).parents[2] / "shared" / "recipes"
#: Those of Slurm's commands that adapters and launchers use.
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "sacct", "sacctmgr", "srun")


class Slurm:
    """Hosts h1, h2, …, the controller on the first; or all on this machine, which is node1, …."""

    def __init__(self, path: Path, has_hosts: bool = True) -> None:
        self.path = path
        self._has_hosts = has_hosts
        self.environ = {**os.environ, "SLURM_CONF": str(path / "slurm.conf")}

    def commands(self) -> dict[str, str]:
        """Return an environment in whose PATH Slurm's commands run on the first host."""
        folder = self.path / "bin"
        if not folder.exists():
            folder.mkdir()
            for name in COMMANDS:
                program = shutil.which(name)
                file = folder / name
                file.write_text(f'#!/bin/sh\nexec {shlex.join(self.on(1, [program]))} "$@"\n')
                file.chmod(0o755)
        return {**self.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def process(self, name: str) -> int:
        """Return the process id of a daemon: slurmctld, slurmd.node1, …; the one started last."""
        lines = (self.path / "pids").read_text().splitlines()
        return [int(line.split()[1]) for line in lines if line.split()[0] == name][-1]

    def start_controller(self) -> None:
        """Start slurmctld again, as the recipe does, after it was killed."""
        log = self.path / "log" / "slurmctld.again"
        start = f"setsid {shlex.join(self.on(1, ['slurmctld', '-D']))} >{log} 2>&1 </dev/null"
        words = ["sh", "-c", f"{start} & echo $!"]
        pid = int(subprocess.check_output(words, env=self.environ, text=True))
        with (self.path / "pids").open("a") as pids:
            pids.write(f"slurmctld {pid}\n")

    def on(self, number: int, argv: Sequence[object]) -> list[str]:
        """Return the words that run *argv* on a host."""
        there = [f"{self.path}.net/on", str(number)] if self._has_hosts else []
        return [*there, *map(str, argv)]

    def run(self, *argv: object) -> str:
        """Run one of Slurm's commands on the first host; return what it wrote."""
        done = subprocess.run(
            self.on(1, argv), env=self.environ, capture_output=True, text=True, timeout=120
        )
        return done.stdout + done.stderr


@contextmanager
def cluster(count: int, **settings: str) -> Iterator[Slurm]:
    """Start a Slurm of *count* hosts; *settings* are those of the recipe (CPUS, GPUS, …).

    NETNS="0" is without hosts of its own, as DBD="1" needs it.
    """
    if not (RECIPES / "slurm-up.sh").exists() or not Path("/usr/sbin/slurmctld").exists():
        pytest.skip("there is no recipe for Slurm here, or no Slurm (`apt-get install slurm-wlm`)")
    if os.geteuid():
        pytest.skip("only root can make hosts")
    path = (
        Path("/tmp") / f"balsam-slurm-{os.getpid()}-{settings.get('NETNS', '1')}"
    )  # Slurm's sockets need a short path
    # Namespaces have names for all of the machine; BALSAM_HOME is for what one test starts.
    environ = {name: value for name, value in os.environ.items() if name != "BALSAM_HOME"}
    environ |= {"NETNS": "1", "PREFIX": f"balsam{os.getpid()}h", **settings}
    subprocess.run([RECIPES / "slurm-up.sh", str(count), path], env=environ, check=True)
    try:
        yield Slurm(path, environ["NETNS"] == "1")
    finally:
        subprocess.run([RECIPES / "slurm-down.sh", path], env=environ, check=True)
        shutil.rmtree(path)
        shutil.rmtree(f"{path}.net", ignore_errors=True)
