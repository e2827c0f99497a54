"""A real Grid Engine of this machine, where the recipe for it stands beside the project."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.slurm import RECIPES


class GridEngine:
    """A cell with one host, this machine."""

    def __init__(self, path: Path, port: int) -> None:
        self.path = path
        self.environ = {
            **os.environ,
            "SGE_ROOT": str(path),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": str(port),
            "SGE_EXECD_PORT": str(port + 1),
        }

    def kill_master(self) -> None:
        """Kill sge_qmaster; execution goes on."""
        pid = self._pids()["qmaster"]
        os.kill(pid, signal.SIGKILL)

    def start_master(self) -> None:
        """Start sge_qmaster again, as the recipe does."""
        log = self.path / "log" / "qmaster.again"
        start = f"setsid sge_qmaster >{log} 2>&1 </dev/null & echo $!"
        pid = int(self.run("env", "SGE_ND=1", "sh", "-c", start))
        pids = self._pids() | {"qmaster": pid}
        text = "".join(f"{name} {pid}\n" for name, pid in pids.items())
        (self.path / "pids").write_text(text)

    def _pids(self) -> dict[str, int]:
        lines = (self.path / "pids").read_text().splitlines()
        return {name: int(pid) for name, pid in map(str.split, lines)}

    def run(self, *argv: object) -> str:
        """Run one of its commands; return what it wrote."""
        done = subprocess.run(
            [str(word) for word in argv],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout + done.stderr


@contextmanager
def cell(slots: int) -> Iterator[GridEngine]:
    """Start a Grid Engine with this many slots."""
    if not (RECIPES / "sge-up.sh").exists() or not shutil.which("sge_qmaster"):
        pytest.skip(
            "there is no recipe for Grid Engine here, or no Grid Engine"
            " (`apt-get install gridengine-master gridengine-exec gridengine-client`)"
        )
    if os.geteuid():
        pytest.skip("only root can start a cell")
    path = Path("/tmp") / f"balsam-sge-{os.getpid()}"
    environ = {name: value for name, value in os.environ.items() if name != "BALSAM_HOME"}
    port = _two_ports()
    environ["SGE_PORT"] = str(port)
    subprocess.run([RECIPES / "sge-up.sh", str(slots), path], env=environ, check=True)
    try:
        yield GridEngine(path, port)
    finally:
        subprocess.run([RECIPES / "sge-down.sh", path], env=environ, check=True)
        shutil.rmtree(path)


def _two_ports() -> int:
    """Return a port of this machine that is free now, and the next one too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
