"""Taking over from launchers that died: their results, their jobs, their processes."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from balsam.client.interface import Client
from balsam.lifecycle.journal import JournalDamaged, replay
from balsam.lifecycle.leftovers import kill_marked
from balsam.model.wire import LauncherInfo


def journal_path(site: Path, launcher_id: int) -> Path:
    return site / "log" / f"launcher_{launcher_id}.journal"


def launcher_directory(site: Path, launcher_id: int) -> Path:
    """Return the directory of what a launcher's workers read and leave."""
    return site / "run" / f"launcher_{launcher_id}"


def process_start(pid: int) -> str:
    """Return what tells a process from others with the same pid: where pids count, and its start.

    '' when there is no such process, or only its zombie.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{_pid_space()}/{fields[19]}"


def is_seen_dead(host: str, pid: int, pid_started: str) -> bool:
    """Tell whether a process is one that we would see if it was there, and is not there."""
    if host != socket.gethostname() or pid_started.rpartition("/")[0] != _pid_space():
        return False
    return process_start(pid) != pid_started


def _pid_space() -> str:
    """Return what tells boots and containers apart, which may share the name of their host."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.readlink('/proc/self/ns/pid')}"


class Recovery:
    """Retires every launcher that is dead, after replaying what it knew.

    Parameters
    ----------
    own
        Our own launcher id, left alone.
    crash_limit
        How often the run of a job may be lost before it is FAILED; 0: without limit.
    """

    def __init__(
        self, client: Client, own: int, crash_limit: int, say: Callable[[str], None]
    ) -> None:
        self._client = client
        self._crash_limit = crash_limit
        self._own = own
        self._say = say
        self._host = socket.gethostname()
        #: When the leases ended of launchers whose processes are there: launcher → time.
        self._overdue: dict[int, float] = {}

    def look(self) -> int:
        """Look for dead launchers once; return how many jobs they held.

        Called every third of a lease: so often live ones renew.

        A launcher whose process we would see is dead when that is gone. While it is there, an
        ended lease alone does not tell, for the machine's clock may have been set: it is dead
        when it has not renewed its lease by the next look. Any other is dead when its lease has
        ended.
        """
        ended = {info.id for info in self._client.expired_launchers()}
        overdue: dict[int, float] = {}
        freed = 0
        for info in self._client.launchers(kind=None):
            if info.id == self._own:
                continue
            visible = info.host == self._host and _is_of_this_pid_space(info)
            gone = visible and process_start(info.pid) != info.pid_started
            if info.id in ended and visible and not gone:
                overdue[info.id] = info.expires_at
                gone = self._overdue.get(info.id) == info.expires_at
            if gone or (info.id in ended and not visible):
                alive = visible and process_start(info.pid) == info.pid_started
                freed += self._take_over(info, alive=alive)
        self._overdue = overdue
        return freed

    def _take_over(self, info: LauncherInfo, *, alive: bool) -> int:
        """Retire the dead launcher *info*; return how many jobs it held.

        What is left of it is killed before its jobs can run again; but only after that where
        it is *alive*, late as it is: what it says of their ends has then to be refused.
        """
        journal = journal_path(self._client.path, info.id)
        ours = info.host == self._host
        killed = kill_leftovers(self._client.path, info.id) if ours and not alive else 0
        told = 0
        try:
            report = replay(journal, info.id)
            told = len(report.attempts)
            self._client.report(info.id, report)
        except FileNotFoundError:
            pass  # it never began one, or another launcher was here before us
        except JournalDamaged as error:
            kept = journal.rename(journal.with_suffix(".damaged"))
            self._say(
                f"{error}; kept as {kept.name}: what only it knew is lost, its jobs run again"
            )
        message = f"launcher {info.id} on {info.host} died"
        held = self._client.retire_launcher(
            info.id, message, lost=True, crash_limit=self._crash_limit
        )
        if ours and alive:
            killed = kill_leftovers(self._client.path, info.id)
        journal.unlink(missing_ok=True)
        shutil.rmtree(launcher_directory(self._client.path, info.id), ignore_errors=True)
        self._say(
            f"{message}: took over {held} jobs, {told} executions from its journal,"
            f" killed {killed} leftover processes"
        )
        return held


def _is_of_this_pid_space(info: LauncherInfo) -> bool:
    return info.pid_started.rpartition("/")[0] == _pid_space()


def kill_leftovers(site: Path, launcher_id: int) -> int:
    """Kill the processes on this machine that a dead launcher's jobs left; return how many."""
    return kill_marked(launcher_marks(site, launcher_id))


def launcher_marks(site: Path, launcher_id: int) -> dict[str, str]:
    """Return the variables that tell a launcher's processes from all others."""
    return {"BALSAM_LAUNCHER_ID": str(launcher_id), "BALSAM_SITE": str(site)}
