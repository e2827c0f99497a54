"""Taking over from launchers that died: their results, their jobs, their processes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from balsam.client.interface import Client
from balsam.launcher.journal import replay
from balsam.model.wire import LauncherInfo


def journal_path(site: Path, launcher_id: int) -> Path:
    return site / "log" / f"launcher_{launcher_id}.journal"


def process_start(pid: int) -> str:
    """Return what tells a process from a later one with the same pid: boot and start time.

    '' when there is no such process, or only its zombie.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def recover(client: Client, own: int, say: Callable[[str], None]) -> None:
    """Retire every launcher that is dead, after replaying what it knew.

    A launcher on this host is dead when its process is; any other when its lease has ended.

    Parameters
    ----------
    own
        Our own launcher id, left alone.
    """
    host = socket.gethostname()
    dead = {info.id: info for info in client.expired_launchers()}
    for info in client.launchers():
        if info.host == host and process_start(info.pid) != info.pid_started:
            dead[info.id] = info
    dead.pop(own, None)
    for info in dead.values():
        say(_take_over(client, info, on_this_host=info.host == host))


def _take_over(client: Client, info: LauncherInfo, *, on_this_host: bool) -> str:
    journal = journal_path(client.path, info.id)
    killed = kill_leftovers(client.path, info.id) if on_this_host else 0
    told = 0
    if journal.exists():
        report = replay(journal, info.id)
        told = len(report.attempts)
        client.report(info.id, report)
    message = f"launcher {info.id} on {info.host} died"
    held = client.retire_launcher(info.id, message, lost=True)
    journal.unlink(missing_ok=True)
    return (
        f"{message}: took over {held} jobs, {told} executions from its journal,"
        f" killed {killed} leftover processes"
    )


def kill_leftovers(site: Path, launcher_id: int) -> int:
    """Kill the processes on this machine that a dead launcher's jobs left; return how many.

    They are known by the variables that every job is given.
    """
    marks = {f"BALSAM_LAUNCHER_ID={launcher_id}".encode(), f"BALSAM_SITE={site}".encode()}
    killed = 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if marks <= set(file.read().split(b"\0")):
                    os.kill(int(name), signal.SIGKILL)
                    killed += 1
        except OSError:  # it is gone, or somebody else's
            continue
    return killed
