"""Jobs that each bring a small file from a host by ssh: with shared connections, and without."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from balsam.client.connect import open_client
from balsam.model.job import Job
from balsam.model.query import ALL, Query
from balsam.model.transfer import TransferState

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.sshd import Sshd

JOBS = 200


def measure(
    path: Path, launch: Callable[[], None], tell: Callable[..., None], jobs: int = JOBS
) -> None:
    """Tell the seconds of *jobs* jobs by each program, shared and not, and their ratio.

    Parameters
    ----------
    launch
        Runs a launcher until all jobs have ended.

    Raises
    ------
    SystemExit
        A file did not come.
    """
    far = path / "far"
    far.mkdir()
    for number in range(jobs):
        (far / f"{number}.dat").write_text(f"{number}")
    sshd = Sshd()
    try:
        for scheme in ("sftp", "rsync"):
            alone = _seconds(path, launch, sshd, scheme, jobs, share=False)
            shared = _seconds(path, launch, sshd, scheme, jobs, share=True)
            tell(
                "transfers",
                by=scheme,
                jobs=jobs,
                alone_s=round(alone, 1),
                shared_s=round(shared, 1),
                times_as_fast=round(alone / shared, 1),
            )
    finally:
        sshd.close()


def _seconds(
    path: Path, launch: Callable[[], None], sshd: Sshd, scheme: str, count: int, *, share: bool
) -> float:
    settings = f'[transfers]\nssh = "{sshd.ssh}"\nshare_connections = {str(share).lower()}\n'
    (path / "balsam.toml").write_text(settings)
    client = open_client(path)
    name = f"{scheme}-{share}"
    jobs = [
        Job(
            name=f"{name}{number}",
            workflow=name,
            application="noop",
            stage_in_url=f"{scheme}:127.0.0.1:{path}/far/{number}.dat",
        )
        for number in range(count)
    ]
    client.create_jobs(jobs)
    began = time.perf_counter()
    launch()
    seconds = time.perf_counter() - began
    done = [each for each in client.transfers(ALL) if each.state is TransferState.DONE]
    came = sum(f"{scheme}:" in each.url for each in done)
    ended = client.count_jobs(Query().where(workflow=name, state="JOB_FINISHED"))
    client.close()
    if ended != count or came < count:
        raise SystemExit(f"of {count} files by {scheme} {came} came; {ended} jobs finished")
    return seconds
