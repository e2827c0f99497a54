"""Whether launchers on other hosts can use the site's database.

SQLite's write-ahead log needs memory that all who open the file share: on a network file system two
hosts would damage it (https://www.sqlite.org/wal.html, 'all processes using a database must be on
the same host computer').
"""

from __future__ import annotations

import re
from pathlib import Path

from balsam.config import Settings
from balsam.errors import SiteError

#: File systems of several hosts, as /proc/self/mountinfo names them.
_SHARED = re.compile(
    r"nfs\d?|lustre|gpfs|mmfs|beegfs|fhgfs|ceph|fuse\.ceph\S*|panfs|pvfs2|orangefs|afs|cifs|smb\d?"
    r"|glusterfs|fuse\.glusterfs|fuse\.sshfs|dvs|wekafs|gfs2|ocfs2|vast\S*|daos|fuse\.daos"
)
MOUNTS = Path("/proc/self/mountinfo")


def file_system(path: Path, mounts: str) -> str:
    """Return the type of the file system that *path* is on, '' when that is not known.

    Parameters
    ----------
    path
        Absolute, without symbolic links.
    mounts
        Text of /proc/self/mountinfo (see proc(5)); of mounts over one another the last counts.
    """
    found = (0, "")
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        words = fields.split()
        if len(words) > 4 and rest:
            point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), words[4])
            if path.is_relative_to(point) and len(point) >= found[0]:
                found = (len(point), rest.split()[0])
    return found[1]


def check(site: Path, settings: Settings, scheduler: str, mounts: Path = MOUNTS) -> None:
    """Refuse batch jobs on other hosts where the database cannot be shared with them.

    Raises
    ------
    SiteError
        It is an SQLite file on a file system of several hosts; the message says what to do.
    """
    if settings.database.url != "sqlite" or scheduler == "local":
        return
    try:
        kind = file_system(site.resolve(), mounts.read_text(errors="replace"))
    except OSError:
        return  # nobody can tell
    if _SHARED.fullmatch(kind):
        raise SiteError(
            f"the site's database is an SQLite file on {kind}: launchers on other hosts would"
            " damage it. Move it to PostgreSQL with `balsam db copy --to postgres`, and let its"
            " server listen for them with the setting database.listen"
        )
