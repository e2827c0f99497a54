"""A real Slurm, on hosts of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from balsam.schedulers.slurm import Slurm
from tests import slurm
from tests.contract.schedulers.desk import wait_until
from tests.contract.schedulers.system import Fate


class SlurmSystem:
    """Slurm with two nodes of two cores."""

    name = "slurm"
    num_nodes = 2
    cores_per_node = 2
    patience = 60.0
    queue = "debug"
    max_minutes = 60.0
    refusal = r"sbatch: .*invalid partition specified: nope"
    short: tuple[str, ...] = ()

    def __init__(self, cluster: slurm.Slurm) -> None:
        self.scheduler = Slurm()
        self.environ = cluster.commands()
        self._cluster = cluster

    def fill(self) -> None:
        options = ["--parsable", f"--nodes={self.num_nodes}", "--exclusive", "--mem=0"]
        sleep = ["--job-name=filler", "--output=/dev/null", "--wrap", "exec sleep 600"]
        number = self._cluster.run("sbatch", *options, *sleep).strip()
        self._wait_for(number, "RUNNING")

    def clear(self) -> None:
        self._cluster.run("scancel", "--user=root", "--full", "--signal=KILL")
        self._cluster.run("scancel", "--user=root")
        idle = ["sinfo", "--noheader", "--partition=debug", "--states=idle", "--format=%D"]
        wait_until(
            lambda: self._cluster.run(*idle).strip() == str(self.num_nodes),
            self.patience,
            lambda: self._cluster.run("squeue") + self._cluster.run("sinfo"),
        )

    def start(self, scheduler_id: str) -> None:
        self._cluster.run("scancel", "--name=filler")
        self._wait_for(scheduler_id, "RUNNING")

    def end(self, scheduler_id: str, script: str, fate: Fate) -> None:
        if fate is Fate.TIMEOUT:
            # Limits are whole minutes, the end of a request is not.
            end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 1))
            self._cluster.run("scontrol", "update", f"JobId={scheduler_id}", f"EndTime={end}")

    def _wait_for(self, scheduler_id: str, word: str) -> None:
        asked = ["squeue", "--noheader", f"--jobs={scheduler_id}", "--states=all", "--format=%T"]
        wait_until(
            lambda: self._cluster.run(*asked).strip() == word,
            self.patience,
            lambda: self._cluster.run("squeue", "--states=all"),
        )


@contextmanager
def slurm_system(path: Path) -> Iterator[SlurmSystem]:
    with slurm.cluster(2, cpus=2) as cluster:
        yield SlurmSystem(cluster)
