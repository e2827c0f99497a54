"""A batch system's daemons on hosts of their own, where no other set of them is met."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from tests import hosts

#: Seconds until a batch system that does not start is given up.
PATIENCE = 30.0
#: Debian keeps daemons off the PATH of users.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])


def absent(programs: Iterable[str]) -> list[str]:
    """Return those of these programs that this machine has not."""
    return [name for name in programs if not shutil.which(name, path=PATH)]


def require(programs: Iterable[str], packages: str) -> None:
    """Without these programs or hosts, fail in continuous integration, and skip elsewhere."""
    hosts.require()
    if missing := absent(programs):
        reason = f"{', '.join(missing)} is missing (Debian: apt-get install {packages})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Daemons:
    """Daemons with names on hosts h1, h2, …, and a folder for what they keep.

    All that runs on the hosts ends with `close`, whoever started it. Of a test process that is
    killed the daemons die with it; what they started then runs to its end.
    """

    def __init__(self, name: str, count: int) -> None:
        self.hosts = hosts.Hosts(count)
        # Not in the folder of a test: sockets need a short path.
        self.path = Path(tempfile.mkdtemp(prefix=name))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._said = ""
        # They outlive the test that started them, which looks for processes with its home.
        self._environ = {k: v for k, v in os.environ.items() if k != "BALSAM_HOME"}

    def start(
        self, name: str, number: int, argv: Sequence[object], environ: Mapping[str, str]
    ) -> None:
        """Start a daemon that stays in the foreground on a host; again, if it has ended."""
        if name in self._running:
            self._running[name].wait(PATIENCE)
        program = shutil.which(str(argv[0]), path=PATH)
        words = ["setpriv", "--pdeathsig", "KILL", *self.hosts.on(number, [program, *argv[1:]])]
        with (self.path / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self._environ, **environ},
                cwd=self.path,
                start_new_session=True,
            )

    def pid(self, name: str) -> int:
        """Return the process id of a daemon; of the one started last."""
        return self._running[name].pid

    def kill(self, name: str) -> None:
        """Kill a daemon; what it has started goes on."""
        os.kill(self.pid(name), signal.SIGKILL)
        self._running[name].wait(PATIENCE)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until they are as they should; fail with what they wrote if that never is so."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            ended = [name for name, daemon in self._running.items() if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = [f"{log.name}:\n{log.read_text()}" for log in self.path.glob("*.log")]
                pytest.fail("\n".join([f"ended: {ended}; said last: {self._said}", *logs]))
            time.sleep(0.02)

    def commands(self, names: Iterable[str]) -> str:
        """Return a PATH where these commands run on the first host."""
        folder = self.path / "commands"
        if not folder.exists():
            folder.mkdir()
            for name in names:
                words = shlex.join(self.hosts.on(1, [shutil.which(name, path=PATH)]))
                (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
                (folder / name).chmod(0o755)
        return f"{folder}{os.pathsep}{os.environ['PATH']}"

    def run(self, argv: Sequence[object], environ: Mapping[str, str]) -> str:
        """Run a command on the first host; return what it wrote."""
        done = subprocess.run(
            self.hosts.on(1, argv), env=environ, capture_output=True, text=True, timeout=120
        )
        self._said = done.stdout + done.stderr
        return self._said

    def close(self) -> None:
        """End all that runs on the hosts, and them; nothing of it is kept."""
        self.hosts.close()
        for daemon in self._running.values():
            daemon.wait(PATIENCE)
        shutil.rmtree(self.path)
