"""Launchers that run the functions: telling when there is none, and starting one here."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from balsam import config
from balsam.client.interface import Client
from balsam.errors import BalsamError

log = logging.getLogger("balsam")
#: Seconds that are waited for a launcher before the user is told that there is none.
TELL_SECONDS = 10.0
#: A launcher of ours ends after so many seconds without work; when there is some, it is started
#: again.
IDLE_SECONDS = 20.0
#: Seconds that our launcher may take to end, beside what it gives its jobs.
PATIENCE = 15.0
#: Starts in a row that may fail.
MOST_FAILURES = 3


def is_any_alive(client: Client) -> bool:
    """Tell whether a launcher of the site lives."""
    now = client.now()
    return any(info.expires_at > now for info in client.launchers())


def is_this_machine(client: Client) -> bool:
    """Tell whether the batch system is this machine itself."""
    from balsam.schedulers.command import Command  # few programs get here
    from balsam.schedulers.find import find

    settings = config.load(client.path).scheduler
    try:
        return find(settings.name, Command(settings.timeout_seconds)).name == "local"
    except BalsamError as error:
        log.warning("no launcher is started here: %s", error)
        return False


class PilotCheck:
    """Sees to launchers while results are waited for."""

    def __init__(self) -> None:
        #: Called at each look, to start launchers that are somebody's own.
        self.starters: set[Callable[[], None]] = set()
        self._none_since: float | None = None
        self._has_told = False

    def look(self, client: Client, pending: Mapping[int, object]) -> None:
        """Start what is to be started; say once why nothing happens."""
        if not pending:
            self._none_since = None
            return
        for start in list(self.starters):
            start()
        if self._has_told:
            return
        if is_any_alive(client):
            self._none_since = None
            return
        now = time.monotonic()
        if self._none_since is None:
            self._none_since = now
        elif now - self._none_since >= TELL_SECONDS:
            self._has_told = True
            log.warning(
                "%d jobs are waited for, and no launcher of %s lives: start one with `balsam"
                " launcher --consume-all`, or submit one with `balsam submit-launch`",
                len(pending),
                client.path,
            )


class OwnPilot:
    """A launcher on this machine, for the jobs with *tag*.

    Parameters
    ----------
    tag
        ``KEY=VALUE``.
    """

    def __init__(self, site: Path, tag: str) -> None:
        self._site = site
        self._tag = tag
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._failures = 0
        self.log_file = site / "log" / f"executor-{tag.partition('=')[2]}.txt"

    def ensure(self) -> None:
        """Start the launcher if it does not run; give up when it fails again and again."""
        if os.getpid() != self._owner or self._failures >= MOST_FAILURES:
            return
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._failures = self._failures + 1 if code else 0
            if self._failures >= MOST_FAILURES:
                log.warning("the launcher cannot be started; see %s", self.log_file)
                return
        is_first = self._process is None
        self._start()
        if is_first:
            log.info("started a launcher on this machine; it writes to %s", self.log_file)

    def _start(self) -> None:
        words = [sys.executable, "-P", "-m", "balsam.cli.main", "launcher", "--consume-all"]
        words += ["--tag", self._tag, "--idle-seconds", str(IDLE_SECONDS)]
        with self.log_file.open("ab") as output:
            # A session of its own: Ctrl-C is for the program, which then ends it in order.
            self._process = subprocess.Popen(
                words,
                env=os.environ | {"BALSAM_SITE": str(self._site)},
                cwd=self._site,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End the launcher; what it runs goes back and can be run by others."""
        process = self._process
        self._failures = MOST_FAILURES
        if process is None or os.getpid() != self._owner:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE + config.load(self._site).launcher.grace_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def leave(self) -> None:
        """Let the launcher go on by itself until there is no work for it."""
        self._failures = MOST_FAILURES
        if self._process is not None and self._process.poll() is None:
            self._process.returncode = 0  # it is not waited for, which is meant
