"""A real Slurm on hosts of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests import slurm_conf
from tests.daemons import Daemons, absent, require

#: Those of Slurm's commands that adapters and launchers use.
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "sacct", "sacctmgr", "srun")
#: What accounts need besides.
ACCOUNTS = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb")
_DATABASE = """
create database slurm;
create user slurm@'127.0.0.1' identified by 'slurm';
create user slurm@localhost identified by 'slurm';
grant all on slurm.* to slurm@'127.0.0.1';
grant all on slurm.* to slurm@localhost;
"""


class Slurm:
    """Hosts h1, h2, …; the controller is on the first."""

    def __init__(self, daemons: Daemons) -> None:
        self.path = daemons.path
        self._daemons = daemons
        self._conf = {"SLURM_CONF": str(self.path / "slurm.conf")}

    @property
    def environ(self) -> dict[str, str]:
        """The variables of the test that asks, and Slurm's: what is submitted has them, too."""
        return os.environ | self._conf

    def commands(self) -> dict[str, str]:
        """Return an environment in whose PATH Slurm's commands run on the first host."""
        return {**self.environ, "PATH": self._daemons.commands(COMMANDS)}

    def process(self, name: str) -> int:
        """Return the process id of a daemon: slurmctld, slurmd.h1, …; of the one started last."""
        return self._daemons.pid(name)

    def start_controller(self) -> None:
        """Start slurmctld; again, after it was killed."""
        self._start("slurmctld", 1, "slurmctld", "-D")

    def on(self, number: int, argv: Sequence[object]) -> list[str]:
        """Return the words that run *argv* on a host."""
        return self._daemons.hosts.on(number, argv)

    def run(self, *argv: object) -> str:
        """Run one of Slurm's commands on the first host; return what it wrote."""
        return self._daemons.run(argv, self.environ)

    def start(self, count: int, has_accounts: bool) -> None:
        """Start all daemons; return when all nodes are idle."""
        names = ("socket", "key-file", "pid-file", "log-file", "seed-file")
        files = [f"--{name}={self.path}/munge.{name}" for name in names]
        # --force: as root it would not start.
        self._start("munged", 1, "munged", "--foreground", "--force", *files)
        self._daemons.wait_until((self.path / "munge.socket").exists)
        if has_accounts:
            self._start_accounts()
        self.start_controller()
        for number in range(1, count + 1):
            self._start(f"slurmd.h{number}", number, "slurmd", "-D", "-N", f"h{number}")
        idle = ("sinfo", "--noheader", "--partition=debug", "--states=idle", "--format=%D")
        self._daemons.wait_until(lambda: self.run(*idle).strip() == str(count))

    def _start_accounts(self) -> None:
        data = ("--no-defaults", "--user=root", f"--datadir={self.path}/mariadb")
        socket = f"--socket={self.path}/mariadb.sock"
        client = ("mariadb", "--no-defaults", socket, "--execute")
        self.run("mariadb-install-db", *data, "--skip-test-db")
        self._start("mariadbd", 1, "mariadbd", *data, socket, "--bind-address=127.0.0.1")
        self._daemons.wait_until(lambda: not self.run(*client, "select 1").startswith("ERROR"))
        self.run(*client, _DATABASE)
        self._start("slurmdbd", 1, "slurmdbd", "-D")
        show = ("sacctmgr", "--noheader", "show", "cluster")
        self._daemons.wait_until(lambda: "error" not in self.run(*show))
        self.run("sacctmgr", "--immediate", "add", "cluster", "test")

    def _start(self, name: str, number: int, *argv: object) -> None:
        self._daemons.start(name, number, argv, self._conf)


@contextmanager
def cluster(
    count: int, *, cpus: int = 4, gpus: int = 0, has_accounts: bool = False, more: str = ""
) -> Iterator[Slurm]:
    """Start a Slurm of *count* hosts with CPUs and GPUs each; *more* are lines of slurm.conf."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch")
    require(programs, "slurm-wlm munge")
    if has_accounts and (missing := absent(ACCOUNTS)):
        pytest.skip(f"{', '.join(missing)} is missing (Debian: slurmdbd mariadb-server)")
    daemons = Daemons("slurm", count)
    try:
        addresses = [daemons.hosts.address(number) for number in range(1, count + 1)]
        slurm_conf.write(daemons.path, addresses, cpus, gpus, has_accounts, more)
        slurm = Slurm(daemons)
        slurm.start(count, has_accounts)
        yield slurm
    finally:
        daemons.close()
