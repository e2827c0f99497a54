"""A launcher of the user's own, for as long as Snakemake runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: Seconds that a launcher gets to end its jobs.
PATIENCE = 60
#: Seconds without work after which it ends by itself: its Snakemake may have been killed.
IDLE = 300


class Launcher:
    """`balsam launcher` on this machine, for the jobs with one tag.

    It does not get the interrupts of the terminal: Snakemake kills its jobs, then ends it.
    """

    def __init__(self, site: Path, tag: str, log: Path) -> None:
        self.log = log
        self._site = site
        self._tag = tag
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "balsam.cli.main", "launcher", "--site", str(self._site)]
        with open(self.log, "ab") as output:
            return subprocess.Popen(
                [*words, "--consume-all", "--idle-seconds", str(IDLE), "--tag", self._tag],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_plain_environ(),
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def keep(self) -> None:
        """Start it again if it has ended because there was nothing to do."""
        if self.exit_code == 0:
            self._process = self._start()

    def stop(self) -> None:
        """End it, and wait for that."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _plain_environ() -> dict[str, str]:
    """Return the environment without what makes a Snakemake inside a job take options of ours."""
    return {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
