"""The service in the background: starting it, and where it writes what happens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from balsam.client.interface import Client
from balsam.errors import ServiceRuns, SiteError
from balsam.model.service import ServiceInfo
from balsam.model.wire import Topic


def log_file(site: Path) -> Path:
    """Return where a service in the background writes what happens."""
    return site / "log" / "service.log"


def start(client: Client, seconds: float = 30.0) -> ServiceInfo:
    """Start the site's service in the background; return it when it lives.

    Raises
    ------
    ServiceRuns
        The site has one already.
    SiteError
        It did not start; the message has what it said.
    """
    file = log_file(client.path)
    try:
        with open(file, "ab") as log:
            begin = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "balsam.cli.main", "service", "run"],
                env={**os.environ, "BALSAM_SITE": str(client.path)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except OSError as error:
        raise SiteError(f"cannot write {file}: {error.strerror}") from error
    watching = client.watch(Topic.WORK)
    try:
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            found = client.service()
            if found is not None and found.pid == process.pid and found.ended_at is None:
                return found
            watching.wait(0.2)
    finally:
        watching.close()
    text = file.read_bytes()[begin:].decode(errors="replace").strip()
    last = text.splitlines()[-1] if text else "it said nothing"
    if process.poll() is None:
        process.terminate()
        process.wait()
    kind = ServiceRuns if "has a service already" in last else SiteError
    raise kind(f"the service did not start: {last.removeprefix('balsam: error: ')}; see {file}")
