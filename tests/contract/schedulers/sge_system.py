"""A real Grid Engine on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from balsam.schedulers.sge import GridEngine
from tests import sge
from tests.contract.schedulers.desk import wait_until
from tests.contract.schedulers.system import Fate


class GridEngineSystem:
    """Grid Engine with one host of four slots."""

    name = "sge"
    num_nodes = 1
    cores_per_node = 4
    patience = 60.0
    queue = "all.q"
    max_minutes = 120.0
    refusal = r'qsub: .*unknown queue "nope"'
    short = ("-l", "h_rt=3")

    def __init__(self, cell: sge.GridEngine) -> None:
        self.scheduler = GridEngine()
        self.environ = cell.environ
        self._cell = cell
        cell.run("qconf", "-mattr", "queue", "h_rt", "02:00:00", "all.q")

    def fill(self) -> None:
        options = ["-terse", "-N", "filler", "-pe", "smp", self.cores_per_node, "-o", "/dev/null"]
        number = self._cell.run("qsub", *options, "-j", "y", "-b", "y", "sleep", 600).strip()
        wait_until(lambda: self._runs(number), self.patience, self._evidence)

    def clear(self) -> None:
        self._cell.run("qdel", "-u", "root")
        wait_until(lambda: not self._cell.run("qstat"), self.patience, self._evidence)

    def start(self, scheduler_id: str) -> None:
        if not self._runs(scheduler_id):
            self._cell.run("qdel", "filler")
            wait_until(lambda: self._runs(scheduler_id), self.patience, self._evidence)

    def end(self, scheduler_id: str, script: str, fate: Fate) -> None:
        """Nothing to do: scripts end by themselves, or at their walltime."""

    def _runs(self, scheduler_id: str) -> bool:
        running = self._cell.run("qstat", "-s", "r").splitlines()
        return any(line.split()[:1] == [scheduler_id] and " r " in line for line in running)

    def _evidence(self) -> str:
        return self._cell.run("qstat", "-f")


@contextmanager
def sge_system(path: Path) -> Iterator[GridEngineSystem]:
    with sge.cell(4) as cell:
        yield GridEngineSystem(cell)
