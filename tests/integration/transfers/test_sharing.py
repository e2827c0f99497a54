"""Jobs that share one ssh connection a host, and processes of sftp."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from balsam.config import TransferSettings
from balsam.errors import TransferBroken, TransferError
from tests.integration.conftest import wait_until
from tests.integration.transfers.conftest import Mover, MoversOf, fill, tree
from tests.integration.transfers.relay import Relay
from tests.sshd import Sshd

MIB = 2**20


def logins(sshd: Sshd) -> int:
    return (sshd.path / "log").read_text().count("Accepted publickey")


def children(word: str) -> list[psutil.Process]:
    """Return our processes with *word* in their command line."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if word in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            pass  # it ends
    return found


@pytest.fixture
def far(tmp_path: Path) -> Path:
    fill(tmp_path / "far", *(f"f{number}" for number in range(6)))
    return tmp_path / "far"


def move(mover: Mover, far: Path) -> None:
    """Six transfers, two ways, by both programs."""
    for number in range(4):
        mover.fetch(f"sftp:127.0.0.1:{far}/f{number}")
    mover.fetch(f"rsync:127.0.0.1:{far}/f4")
    mover.deliver(f"rsync:127.0.0.1:{far}/back", "f4")
    assert sorted(tree(mover.here)) == ["f0", "f1", "f2", "f3", "f4"]
    assert tree(far / "back") == {"f4": "f4"}


def test_one_login_serves_all(mover: Mover, far: Path, sshd: Sshd) -> None:
    before = logins(sshd)
    move(mover, far)
    assert logins(sshd) == before + 1
    assert len(children("sftp -F")) <= 1


def test_what_the_user_says_of_sharing_is_heeded(
    movers_of: MoversOf, far: Path, sshd: Sshd, tmp_path: Path
) -> None:
    """It is left to their configuration, or to nobody."""
    before = logins(sshd)
    theirs = TransferSettings(ssh=f"{sshd.ssh} -o ControlPath={tmp_path}/theirs")
    move(Mover(movers_of(theirs), tmp_path / "here"), far)
    assert not children("ControlMaster")
    unshared = TransferSettings(ssh=sshd.ssh, share_connections=False)
    move(Mover(movers_of(unshared), tmp_path / "there"), far)
    assert not children("ControlMaster")
    assert logins(sshd) == before + 6  # an sftp serves four, each rsync has its own


def test_a_missing_file_is_its_jobs_alone(mover: Mover, far: Path, sshd: Sshd) -> None:
    before = logins(sshd)
    mover.fetch(f"sftp:127.0.0.1:{far}/f0")
    with pytest.raises(TransferError, match="none") as caught:
        mover.fetch(f"sftp:127.0.0.1:{far}/none")
    assert not caught.value.retryable
    assert mover.fetch(f"sftp:127.0.0.1:{far}/f1") == ["f1"]
    assert logins(sshd) == before + 1


@pytest.mark.parametrize("scheme", ["sftp", "rsync"])
def test_a_connection_that_was_lost_meanwhile(
    mover: Mover, far: Path, sshd: Sshd, scheme: str
) -> None:
    mover.fetch(f"{scheme}:127.0.0.1:{far}/f0")
    assert sshd.drop_connections()
    for holder in children("ControlMaster=yes"):
        holder.wait(30)
    assert mover.fetch(f"{scheme}:127.0.0.1:{far}/f1") == ["f1"]


@pytest.mark.parametrize("scheme", ["sftp", "rsync"])
def test_a_connection_that_hangs_costs_a_try(
    movers_of: MoversOf, far: Path, sshd: Sshd, tmp_path: Path, scheme: str
) -> None:
    settings = TransferSettings(ssh=sshd.ssh, timeout_seconds=2.0)
    mover = Mover(movers_of(settings), tmp_path / "here")
    insist(mover, f"{scheme}:127.0.0.1:{far}/f0")
    (holder,) = children("ControlMaster=yes")
    holder.send_signal(signal.SIGSTOP)
    insist(mover, f"{scheme}:127.0.0.1:{far}/f1")
    assert sorted(tree(mover.here)) == ["f0", "f1"]
    assert not holder.is_running()


def insist(mover: Mover, url: str) -> None:
    """Try as often as a job does: on a machine that is slow connections seem lost."""
    for _ in range(TransferSettings().attempts - 1):
        try:
            mover.fetch(url)
            return
        except TransferBroken:
            pass
    mover.fetch(url)


_KILLED = """
import os, signal, sys
from pathlib import Path
from balsam.config import TransferSettings
from balsam.transfers.mover import Fetch
from balsam.transfers.movers import Movers
from balsam.transfers.progress import Progress
from balsam.transfers.urls import parse_url
url, here, ssh = parse_url(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
Movers(TransferSettings(ssh=ssh), {}).fetch(Fetch(url, here, "0", Progress()))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_who_is_killed_leaves_no_connection(far: Path, sshd: Sshd, tmp_path: Path) -> None:
    """`nothing_left_running` looks, too."""
    words = [sys.executable, "-c", _KILLED, f"sftp:127.0.0.1:{far}/f0", str(tmp_path), sshd.ssh]
    killed = subprocess.run(words, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "f0").exists()
    wait_until(lambda: not _named(f"{sshd.config} -x"))


def _named(words: str) -> list[int]:
    found = psutil.process_iter(["cmdline"])
    return [each.pid for each in found if words in " ".join(each.info["cmdline"] or [])]


@pytest.fixture
def relay(sshd: Sshd) -> Iterator[Relay]:
    relay = Relay(sshd.port)
    yield relay
    relay.close()


@pytest.mark.parametrize("change", ["none", "another", "just now"])
def test_a_download_that_is_cut_goes_on(
    movers_of: MoversOf, sshd: Sshd, relay: Relay, tmp_path: Path, change: str
) -> None:
    """Only the rest is asked for; but what changed meanwhile is brought anew."""
    ssh = f"{sshd.ssh} -o HostKeyAlias=127.0.0.1 -o Port={relay.port} -o Compression=no"
    mover = Mover(movers_of(TransferSettings(ssh=ssh)), tmp_path / "here")
    file, content = tmp_path / "large.dat", random.Random(1).randbytes(28 * MIB)
    file.write_bytes(content)
    hour_ago = time.time() - 3600
    if change != "just now":
        os.utime(file, (hour_ago, hour_ago))
    relay.cut_after = 20 * MIB
    with pytest.raises(TransferBroken):
        mover.fetch(f"sftp:127.0.0.1:{file}")
    assert not (mover.here / "large.dat").exists()
    if change != "none":
        was = file.stat().st_mtime
        content = content[::-1]
        file.write_bytes(content)
        new = was if change == "just now" else was - 86400
        os.utime(file, (new, new))
    relay.sent = 0
    assert mover.fetch(f"sftp:127.0.0.1:{file}") == ["large.dat"]
    assert (mover.here / "large.dat").read_bytes() == content
    assert [path.name for path in mover.here.iterdir()] == ["large.dat"]
    assert (relay.sent < 18 * MIB) is (change == "none"), relay.sent
