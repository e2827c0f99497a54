"""Launchers that run the functions: telling when there is none, and starting one here."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from balsam import config
from balsam.client.interface import Client
from balsam.errors import BalsamError
from balsam.model.query import Query
from balsam.model.states import State

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
#: Seconds between two looks at which launchers live.
LOOK_SECONDS = 3.0


def is_one_for(client: Client, workflow: str, tags: Mapping[str, str], owner: str) -> bool:
    """Tell whether a launcher lives that takes jobs of *owner* with *workflow* and *tags*."""
    now = client.now()
    return any(
        info.expires_at > now
        and info.workflow_filter in workflow
        and info.tags.items() <= tags.items()
        and info.jobs_of in ("", owner)
        for info in client.launchers()
    )


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

    def look(self, client: Client, pending: Collection[int]) -> None:
        """Start what is to be started; say once why nothing happens.

        Looks at the first of the *pending* jobs: it is the one that should run by now.
        """
        if not pending:
            self._none_since = None
            return
        for start in list(self.starters):
            start()
        fields = "state", "workflow", "tags", "owner"
        jobs = client.jobs(Query().where(id=min(pending)), fields) if not self._has_told else []
        if not jobs:
            return
        job = jobs[0]
        if job.state is State.RUNNING or is_one_for(client, job.workflow, job.tags, job.owner):
            self._none_since = None
            return
        now = time.monotonic()
        if self._none_since is None:
            self._none_since = now
        elif now - self._none_since >= TELL_SECONDS:
            self._has_told = True
            log.warning(
                "%d jobs are waited for, and no launcher of %s takes job %s: start one with"
                " `balsam launcher --consume-all`, or submit one with `balsam submit-launch`;"
                " `balsam why %s` tells more",
                *(len(pending), client.path, job.id, job.id),
            )


class OwnPilot:
    """A launcher on this machine, for the jobs with the tag *key* of this *value*."""

    def __init__(self, site: Path, key: str, value: str) -> None:
        self._site = site
        self._tag = f"{key}={value}"
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._failures = 0
        self._has_told = False
        self.log_file = site / "log" / f"executor-{value}.txt"

    def is_running(self) -> bool:
        """Tell whether it runs, or cannot be seen to from here."""
        if os.getpid() != self._owner or self._failures >= MOST_FAILURES:
            return True
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the launcher, which does not run; give up when it fails again and again."""
        if self._process is None:
            log.info("started a launcher on this machine; it writes to %s", self.log_file)
        else:
            self._note_end(self._process.returncode)
            if self._failures >= MOST_FAILURES:
                return
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

    def _note_end(self, code: int) -> None:
        self._failures = self._failures + 1 if code else 0
        if self._failures >= MOST_FAILURES:
            log.warning("the launcher cannot be started; see %s", self.log_file)
        elif code == 0 and not self._has_told:
            self._has_told = True
            log.info("the launcher ended without work, and is started again: %s", self.log_file)

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
