"""No launcher is sent to another host to open an SQLite file there."""

from __future__ import annotations

from pathlib import Path

import pytest

from balsam.config import DatabaseSettings, Settings
from balsam.errors import SiteError
from balsam.service import database

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
90 22 0:45 / /home rw,relatime shared:50 - nfs4 server:/home rw,vers=4.2
91 90 0:46 / /home/me/scratch rw - lustre mds@tcp:/scratch rw
92 22 0:47 / /home/a\040b rw - tmpfs tmpfs rw
93 22 0:48 / /var/lib - ext4 x rw
94 93 0:49 / /var/lib rw - beegfs beegfs_nodev rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/tmp/site", "ext4"),
        ("/home/me/site", "nfs4"),
        ("/homeless/site", "ext4"),
        ("/home/me/scratch/site", "lustre"),
        ("/home/a b/site", "tmpfs"),
        ("/var/lib/site", "beegfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, expected: str) -> None:
    assert database.file_system(Path(path), MOUNTS) == expected


def test_nothing_is_known_without_mounts() -> None:
    assert database.file_system(Path("/x"), "") == ""


def mounted(tmp_path: Path, kind: str) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text(f"22 1 8:1 / / rw - {kind} somewhere rw\n")
    return file


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "gpfs", "beegfs", "fuse.sshfs", "ceph"])
def test_sqlite_on_a_shared_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    mounts = mounted(tmp_path, kind)
    with pytest.raises(SiteError, match=f"SQLite file on {kind}.*balsam db copy --to postgres"):
        database.check(tmp_path, Settings(), "slurm", mounts)
    database.check(tmp_path, Settings(), "local", mounts)
    server = Settings(database=DatabaseSettings(url="postgres"))
    database.check(tmp_path, server, "slurm", mounts)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs", "overlay", "btrfs"])
def test_sqlite_on_a_local_file_system_is_not(tmp_path: Path, kind: str) -> None:
    database.check(tmp_path, Settings(), "slurm", mounted(tmp_path, kind))
    database.check(tmp_path, Settings(), "slurm", tmp_path / "no such file")
