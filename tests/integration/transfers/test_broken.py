"""Connections that break, disks that are full, transfers that are to end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from balsam.config import TransferSettings
from balsam.errors import TransferBroken, TransferError
from balsam.transfers.progress import Stopped
from tests.integration.conftest import wait_until
from tests.integration.faults.conftest import Mount, mount
from tests.integration.transfers.conftest import Mover, MoversOf, fill, other_ssh, tree
from tests.integration.transfers.web import Web
from tests.sshd import Sshd, free_port

__all__ = ["mount"]
LARGE = bytes(range(256)) * 4096 * 3  # 3 MiB


@pytest.fixture
def small_disk(mount: Mount, tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "small"
    disk.mkdir()
    mount(disk, "1m")
    yield disk
    wait_until(lambda: not _users(disk))


def _users(disk: Path) -> list[int]:
    """Return the processes that work there: of a lost connection they end when they see it."""
    found = []
    for process in psutil.process_iter():
        try:
            opened = [Path(process.cwd()), *(Path(each.path) for each in process.open_files())]
        except psutil.Error:
            continue
        found += [process.pid for path in opened if path.is_relative_to(disk)]
    return found


# http ------------------------------------------------------------------------------------


def test_a_download_goes_on_where_it_was_cut(mover: Mover, web: Web) -> None:
    web.files["/in.dat"] = LARGE
    web.faults = [{"cut": 1_000_000}]
    with pytest.raises(TransferBroken, match=r"in\.dat"):
        mover.fetch(f"{web.url}/in.dat")
    (part,) = mover.here.iterdir()
    size = part.stat().st_size
    assert part.name.startswith(".in.dat.")
    assert 0 < size <= 1_000_000
    assert mover.fetch(f"{web.url}/in.dat") == ["in.dat"]
    assert web.asked[-1][2] == f"bytes={size}-"
    assert (mover.here / "in.dat").read_bytes() == LARGE
    assert len(list(mover.here.iterdir())) == 1


@pytest.mark.parametrize("with_tags", [True, False])
def test_a_file_that_changed_meanwhile_is_loaded_anew(
    mover: Mover, web: Web, with_tags: bool
) -> None:
    """Its beginning must not be mixed with the other's end; without a tag nobody can know."""
    web.with_tags = with_tags
    web.files["/in.dat"] = LARGE
    web.faults = [{"cut": 1_000_000}]
    with pytest.raises(TransferBroken):
        mover.fetch(f"{web.url}/in.dat")
    web.files["/in.dat"] = LARGE[::-1]
    mover.fetch(f"{web.url}/in.dat")
    assert (mover.here / "in.dat").read_bytes() == LARGE[::-1]
    assert len(list(mover.here.iterdir())) == 1


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [
        ({"status": 503}, True),
        ({"status": 429}, True),
        ({"status": 403}, False),
        ({"status": 404}, False),
        ({"headers": {"Content-Length": str(len(LARGE) + 1)}, "cut": None}, True),
        ({"headers": {"Repr-Digest": "sha-256=:AAAA:"}}, True),
        ({"headers": {"Content-MD5": "AAAA"}}, True),
    ],
)
def test_what_a_server_answers(
    sshd: Sshd,
    movers_of: MoversOf,
    tmp_path: Path,
    web: Web,
    fault: dict[str, object],
    retryable: bool,
) -> None:
    """What may pass is told from what stays; nothing gets its name that is not whole."""
    mover = Mover(movers_of(TransferSettings(timeout_seconds=1.0)), tmp_path / "here")
    web.files["/in.dat"] = LARGE
    web.faults = [fault]
    with pytest.raises(TransferError) as caught:
        mover.fetch(f"{web.url}/in.dat")
    assert caught.value.retryable is retryable
    assert not (mover.here / "in.dat").exists()
    mover.fetch(f"{web.url}/in.dat")
    assert (mover.here / "in.dat").read_bytes() == LARGE


def test_nobody_listens(mover: Mover) -> None:
    with pytest.raises(TransferBroken, match="refused"):
        mover.fetch(f"http://127.0.0.1:{free_port()}/in.dat")


@pytest.mark.parametrize("path", ["", "/", "/a/", "/a/..", "/%2e%2e", "/a%2Fb"])
def test_urls_that_name_no_file(mover: Mover, web: Web, path: str) -> None:
    with pytest.raises(TransferError, match="name of a file"):
        mover.fetch(web.url + path)
    assert not web.asked


def test_names_in_urls(mover: Mover, web: Web) -> None:
    web.files |= {"/a b/ünï.dat": b"one", "/x": b"two"}
    assert mover.fetch(f"{web.url}/a%20b/%C3%BCn%C3%AF.dat") == ["ünï.dat"]
    assert mover.fetch(f"{web.url}/a b/ünï.dat") == ["ünï.dat"]
    assert mover.fetch(f"{web.url}/x?key=a/b") == ["x"]
    assert tree(mover.here) == {"ünï.dat": "one", "x": "two"}


def test_uploads(mover: Mover, web: Web) -> None:
    fill(mover.here, "a b", "d/ünï", "100%?#")
    mover.deliver(f"{web.url}/to/", "a b", "d", "100%?#")
    assert web.files == {"/to/a b": b"a b", "/to/d/ünï": "d/ünï".encode(), "/to/100%?#": b"100%?#"}
    web.faults = [{"status": 507}]
    with pytest.raises(TransferError, match=r"/to/a%20b: the server answers 507") as caught:
        mover.deliver(f"{web.url}/to", "a b")
    assert not caught.value.retryable


def test_a_download_that_is_to_end(mover: Mover, web: Web) -> None:
    web.files["/in.dat"] = LARGE
    web.pause = threading.Event()
    caught: list[BaseException] = []

    def fetch() -> None:
        try:
            mover.fetch(f"{web.url}/in.dat")
        except Stopped as error:
            caught.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    wait_until(lambda: mover.progress.bytes_done > 0)
    mover.progress.stop()
    web.pause.set()
    thread.join(30)
    assert caught
    (part,) = mover.here.iterdir()
    assert part.name.startswith(".in.dat.")


# ssh -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["sftp", "rsync"])
def test_nobody_may_log_in(tmp_path: Path, sshd: Sshd, movers_of: MoversOf, scheme: str) -> None:
    """It fails at once, and nobody is asked for a password."""
    mover = Mover(movers_of(TransferSettings(ssh=sshd.ssh)), tmp_path / "here")
    with pytest.raises(TransferError, match="Permission denied") as caught:
        mover.fetch(f"{scheme}:no-such-user@127.0.0.1:/x")
    assert not caught.value.retryable


@pytest.mark.parametrize("scheme", ["sftp", "rsync"])
def test_no_sshd(tmp_path: Path, sshd: Sshd, movers_of: MoversOf, scheme: str) -> None:
    mover = Mover(movers_of(TransferSettings(ssh=sshd.ssh)), tmp_path / "here")
    url = f"{scheme}://127.0.0.1:{free_port()}/x"  # of rsync: its daemon's
    with pytest.raises(TransferBroken, match="refused"):
        mover.fetch(url)


@pytest.mark.parametrize("scheme", ["sftp", "rsync"])
def test_a_connection_that_is_cut(
    mover: Mover, tmp_path: Path, sshd: Sshd, movers_of: MoversOf, scheme: str
) -> None:
    """No name is given too early; the next try brings all, whatever is left of the first."""
    (tmp_path / "large.dat").write_bytes(LARGE)
    url = f"{scheme}:127.0.0.1:{tmp_path}/large.dat"
    ssh = other_ssh(tmp_path, sshd, 'SSH "$@" | { LIMIT 2000000; pkill -P $$; }; exit 255')
    with pytest.raises(TransferBroken):
        Mover(movers_of(TransferSettings(ssh=ssh)), mover.here).fetch(url)
    assert not (mover.here / "large.dat").exists()
    assert mover.fetch(url) == ["large.dat"]
    assert (mover.here / "large.dat").read_bytes() == LARGE
    assert [path.name for path in mover.here.iterdir()] == ["large.dat"]


def test_an_upload_that_is_cut_goes_on_behind_what_was_whole(
    mover: Mover, tmp_path: Path, sshd: Sshd, movers_of: MoversOf
) -> None:
    names = [f"f{number}" for number in range(250)]
    fill(mover.here, *names)
    (mover.here / "f230").write_bytes(LARGE)
    url = f"sftp:127.0.0.1:{tmp_path / 'far'}"
    cut = Mover(
        movers_of(TransferSettings(ssh=other_ssh(tmp_path, sshd, 'LIMIT 2000000 | SSH "$@"'))),
        mover.here,
    )
    with pytest.raises(TransferBroken) as caught:
        cut.deliver(url, *names)
    whole = cut.progress.files
    assert 200 <= whole <= 230, caught.value
    assert sum(not name.startswith(".") for name in tree(tmp_path / "far")) <= 230
    mover.progress.files = whole
    mover.deliver(url, *names)
    assert sorted(tree(tmp_path / "far")) == sorted(names)
    assert (tmp_path / "far" / "f230").read_bytes() == LARGE


def test_rsync_is_not_there(tmp_path: Path, sshd: Sshd, movers_of: MoversOf) -> None:
    """On the far side: it says so, once."""
    ssh = other_ssh(tmp_path, sshd, "SSH 127.0.0.1 no-such-rsync")
    mover = Mover(movers_of(TransferSettings(ssh=ssh)), tmp_path / "here")
    with pytest.raises(TransferError, match="not found") as caught:
        mover.fetch("rsync:127.0.0.1:/x")
    assert not caught.value.retryable


# full disks ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["local", "sftp", "rsync", "http"])
def test_a_full_disk_here(
    mover: Mover, sshd: Sshd, web: Web, tmp_path: Path, small_disk: Path, scheme: str
) -> None:
    """It is told, and not tried again."""
    (tmp_path / "large.dat").write_bytes(LARGE)
    web.files["/large.dat"] = LARGE
    mover.here = small_disk
    url = {"local": f"local:{tmp_path}", "http": web.url}.get(
        scheme, f"{scheme}:127.0.0.1:{tmp_path}"
    )
    with pytest.raises(TransferError, match=r"(?i)no space|failure|write") as caught:
        mover.fetch(f"{url}/large.dat")
    assert not caught.value.retryable
    assert not (small_disk / "large.dat").exists()


@pytest.mark.parametrize("scheme", ["local", "sftp", "rsync"])
def test_a_full_disk_there(mover: Mover, tmp_path: Path, small_disk: Path, scheme: str) -> None:
    (mover.here / "large.dat").write_bytes(LARGE)
    host = "" if scheme == "local" else "127.0.0.1:"
    with pytest.raises(TransferError) as caught:
        mover.deliver(f"{scheme}:{host}{small_disk}", "large.dat")
    assert not caught.value.retryable
    assert not (small_disk / "large.dat").exists()
