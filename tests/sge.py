"""A real Grid Engine on a host of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests import sge_files
from tests.daemons import Daemons, require

#: Those of its commands that adapters, launchers and these tests use.
COMMANDS = ("qsub", "qstat", "qdel", "qacct", "qhost", "qconf", "qmod", "qalter", "qhold", "qrls")


class GridEngine:
    """A cell with one host, h1."""

    def __init__(self, daemons: Daemons) -> None:
        self.path = daemons.path
        self._cell = {
            "SGE_ROOT": str(self.path),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": "6444",
            "SGE_EXECD_PORT": "6445",
        }
        #: In its PATH the commands run on h1.
        self.environ = {**os.environ, **self._cell, "PATH": daemons.commands(COMMANDS)}
        self._daemons = daemons

    def kill_master(self) -> None:
        """Kill sge_qmaster; execution goes on."""
        self._daemons.kill("sge_qmaster")

    def start_master(self) -> None:
        """Start sge_qmaster; again, after it was killed. Return when it answers."""
        self._start("sge_qmaster")
        self._daemons.wait_until(lambda: self.run("qconf", "-sh").strip() == "h1")

    def run(self, *argv: object) -> str:
        """Run one of its commands; return what it wrote."""
        return self._daemons.run(argv, self.environ)

    def start(self, slots: int) -> None:
        """Start all daemons; return when the host takes jobs."""
        for words in sge_files.spool(self.path):
            self.run(*words)
        self.start_master()
        for option, file in sge_files.objects(self.path, slots, self._shown):
            self.run("qconf", option, file)
        self._start("sge_execd")
        self._daemons.wait_until(self._takes_jobs)

    def _takes_jobs(self) -> bool:
        """Tell whether its queue has an instance on the host, without any letter of trouble."""
        lines = self.run("qstat", "-f").splitlines()
        return any(line.startswith("all.q@") and len(line.split()) == 5 for line in lines)

    def _shown(self, option: str) -> str:
        return self.run("qconf", option)

    def _start(self, name: str) -> None:
        # By SGE_ND it stays in the foreground.
        self._daemons.start(name, 1, [name], {**self._cell, "SGE_ND": "1"})


@contextmanager
def cell(slots: int) -> Iterator[GridEngine]:
    """Start a Grid Engine with this many slots."""
    programs = ("sge_qmaster", "sge_execd", "qsub")
    require(programs, "gridengine-master gridengine-exec gridengine-client")
    daemons = Daemons("sge", 1)
    try:
        engine = GridEngine(daemons)
        engine.start(slots)
        yield engine
    finally:
        daemons.close()
