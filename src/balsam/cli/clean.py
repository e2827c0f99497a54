"""`balsam clean`: remove files that nothing needs any more."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from balsam.cli.context import confirm, open_site, warn
from balsam.client.interface import Client
from balsam.errors import InvalidInput

EXAMPLES = """\
Removes, when it was not used for --older-than days: files with large arguments of functions
that no job has any more; directories and journals of launchers that have ended; half-done
copies in the directories of jobs that have ended. Launchers, the service and programs that
submit may run meanwhile.

With --versions also versions of functions (apps NAME@VERSION) without jobs. These have no date:
end programs that submit such functions before.

Directories, output and logs of jobs, batch jobs and their scripts stay.

examples:
  balsam clean --dry-run
  balsam clean --older-than 7 --versions --yes
"""
#: At least so long: what is younger may belong to a job that is just being stored.
LEAST_DAYS = 1 / 24
Find = Callable[[Client, float], Iterator[Path]]


def add_commands(subparsers: Any) -> None:
    """Add `clean`."""
    parser = subparsers.add_parser(
        "clean", help="remove files that nothing needs any more", epilog=EXAMPLES
    )
    parser.add_argument(
        "--older-than",
        type=float,
        default=1.0,
        metavar="DAYS",
        help="not used for so long (default 1, at least an hour)",
    )
    parser.add_argument(
        "--versions", action="store_true", help="also versions of functions without jobs"
    )
    parser.add_argument("--force", "--yes", dest="yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="say what it is, remove nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Remove what is left over."""
    if not LEAST_DAYS <= args.older_than < math.inf:
        raise InvalidInput(f"--older-than is {args.older_than:g}; give days, at least {1 / 24:.3f}")
    from balsam.lifecycle import remains

    kinds: dict[str, Find] = {
        "arguments of functions": remains.unused_arguments,
        "left by launchers": remains.left_by_launchers,
        "half-done copies": remains.parts_of_transfers,
    }
    before = time.time() - args.older_than * 86400
    with open_site(args) as client:
        total = size = 0
        for name, find in kinds.items():
            count = bytes_here = 0
            for path in find(client, before):
                count, bytes_here = count + 1, bytes_here + remains.size_of(path)
            print(f"{name + ':':<28}{count:>8}  {as_bytes(bytes_here):>12}")
            total, size = total + count, size + bytes_here
        names = [app.name for app in remains.versions(client)] if args.versions else []
        if args.versions:
            names = client.unused_apps(names)
            print(f"{'versions without jobs:':<28}{len(names):>8}  {', '.join(names)}".rstrip())
        what = f"{total} files or directories ({as_bytes(size)})"
        what += f" and {len(names)} apps" if args.versions else ""
        if args.dry_run:
            print(f"Would remove {what}; nothing was changed.")
            return 0
        if not total and not names:
            print("There is nothing to remove.")
            return 0
        if not confirm(args, f"PERMANENTLY remove {what}?"):
            print("Nothing was removed.")
            return 1
        removed = size = 0
        for find in kinds.values():
            for path in find(client, before):
                try:
                    freed = remains.remove(path, before)
                except OSError as error:
                    warn(f"cannot remove {path}: {error.strerror}; it stays")
                    continue
                removed, size = removed + (not os.path.lexists(path)), size + freed
        gone = client.unused_apps(names, remove=True)
    told = f" and {len(gone)} apps" if args.versions else ""
    print(f"Removed {removed} files or directories ({as_bytes(size)}){told}.")
    return 0


def as_bytes(size: int) -> str:
    """Return *size* in words: ``17 bytes``, ``1.2 MiB``."""
    value, units = float(size), iter(("KiB", "MiB", "GiB", "TiB"))
    unit = "bytes"
    while value >= 1024 and (larger := next(units, "")):
        value, unit = value / 1024, larger
    return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
