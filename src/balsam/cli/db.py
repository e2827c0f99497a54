"""`balsam db`: upgrade, back up, move and check a site's database."""

from __future__ import annotations

import argparse
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from balsam import config
from balsam.cli.context import confirm, remember, tell
from balsam.cli.output import print_json, table, timestamp
from balsam.errors import SiteError

if TYPE_CHECKING:
    from balsam.client.maintenance import Backup, Check, Tell

#: Seconds between two looks of the line of progress.
LOOK = 0.1


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `db`."""
    parser = subparsers.add_parser(
        "db",
        help="upgrade, back up, move and check the site's database",
        description="Upgrade, back up, move and check the site's database.",
        epilog="example:\n  balsam db backup && balsam db copy --to postgres",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_migrate(verbs)
    _add_backup(verbs)
    _add_copy(verbs)
    _add_check(verbs)


def _add_migrate(verbs: Any) -> None:
    migrate = verbs.add_parser(
        "migrate",
        help="upgrade the tables to this Balsam",
        description="Upgrade the tables of a site that an older Balsam made, after a backup. Not"
        " while launchers work on it. A migration that fails changes nothing.",
        epilog="examples:\n  balsam db migrate --dry-run\n  balsam db migrate",
    )
    migrate.add_argument("--dry-run", action="store_true", help="say what would be done")
    migrate.add_argument("--no-backup", action="store_true", help="make no backup first")
    migrate.set_defaults(run=run_migrate)


def _add_backup(verbs: Any) -> None:
    backup = verbs.add_parser(
        "backup",
        help="write all rows to one file, also while launchers work",
        description="Write all rows of the site, as they are at one moment, to one SQLite file"
        " that any Balsam restores into any database. Launchers may go on meanwhile.",
        epilog="example:\n  balsam db backup /archive/alloys.db",
    )
    backup.add_argument(
        "file", metavar="FILE", nargs="?", help="the new file (default: in the site's backup/)"
    )
    backup.add_argument("--json", action="store_true", help="print JSON: file, revision, tables …")
    backup.set_defaults(run=run_backup)

    restore = verbs.add_parser(
        "restore",
        help="put a backup back into the site's database",
        description="Have the rows of a backup instead of those of the site's database, whatever"
        " system each is; what is there now is backed up first. Not while launchers work on it."
        " Numbers of jobs and launchers that were ever given are not given again.",
        epilog="example:\n  balsam db restore alloys/backup/balsam-20311104T101112Z.db",
    )
    restore.add_argument("file", metavar="FILE", help="a backup, or a copy of a site's balsam.db")
    restore.add_argument("--yes", action="store_true", help="do not ask")
    restore.add_argument("--force", action="store_true", help="also take another site's backup")
    restore.set_defaults(run=run_restore)


def _add_copy(verbs: Any) -> None:
    copy = verbs.add_parser(
        "copy",
        help="move the site to another database",
        description="Copy all rows to another database, verify that they arrived, and have the"
        " site go on there. Nobody writes meanwhile; not while launchers work on it. The old"
        " database keeps its rows.",
        epilog="examples:\n  balsam db copy --to postgres\n"
        "  balsam db copy --to postgresql://me@dbhost/alloys --no-switch",
    )
    copy.add_argument(
        "--to",
        required=True,
        metavar="DATABASE",
        help="sqlite (a file in the site), postgres (a server of the site's own) or postgresql://…",
    )
    copy.add_argument(
        "--no-switch", action="store_true", help="only copy: the site goes on where it is"
    )
    copy.add_argument("--overwrite", action="store_true", help="replace an older copy of this site")
    copy.add_argument("--json", action="store_true", help="print JSON: source, target, tables …")
    copy.set_defaults(run=run_copy)


def _add_check(verbs: Any) -> None:
    check = verbs.add_parser(
        "check",
        help="look for what must not be in the database",
        description="Let the database system check its files, and check that all rows fit"
        " together: states and history, leases, attempts, dependencies, numbers.",
        epilog="Exit code: 0 all is sound (or was mended), 1 something is left.\n\n"
        "example:\n  balsam db check --repair",
    )
    check.add_argument("--repair", action="store_true", help="put right what is sure to be wrong")
    check.add_argument("--json", action="store_true", help="print JSON: findings, damages …")
    check.set_defaults(run=run_check)

    vacuum = verbs.add_parser(
        "vacuum",
        help="give back the room of removed rows",
        description="Give back the room of removed rows, and measure the tables so that queries"
        " stay fast. An SQLite file is written anew: that needs room for two copies beside it,"
        " and others wait to write meanwhile.",
        epilog="example:\n  balsam db vacuum",
    )
    vacuum.set_defaults(run=run_vacuum)


# verbs ------------------------------------------------------------------------------------


def run_migrate(args: Namespace) -> int:
    """Upgrade the tables."""
    from balsam.client import maintenance

    site = _site(args)
    number, steps = maintenance.steps(site, tell)
    if not steps:
        print(f"The database is of schema {number}, the newest; nothing to do.")
        return 0
    if args.dry_run:
        print(f"Would upgrade the database from schema {number} to {steps[-1].number}:")
        for step in steps:
            print(f"  {step.number}  {step.title}")
        return 0
    with _progress() as progress:
        done = maintenance.migrate(site, backup=not args.no_backup, say=tell, tell=progress)
    if done.backup:
        print(f"Backup: {done.backup}")
    print(f"Upgraded the database from schema {done.before} to {done.after}.")
    return 0


def run_backup(args: Namespace) -> int:
    """Write a backup."""
    from balsam.client import maintenance

    file = Path(args.file).absolute() if args.file else None
    with _progress() as progress:
        written, backup = maintenance.back_up(_site(args), file, tell, progress)
    if args.json:
        print_json({"file": str(written), **_record(backup)})
    else:
        rows = sum(contents.rows for contents in backup.tables.values())
        size = written.stat().st_size
        print(f"Backup: {written} ({_jobs(backup)}, {rows} rows, {_megabytes(size)}, verified)")
    return 0


def run_restore(args: Namespace) -> int:
    """Put a backup back."""
    from balsam.client import maintenance

    site, file = _site(args), Path(args.file).absolute()
    with _progress() as progress:
        backup = maintenance.read_backup(file, progress)
    when = f" of {timestamp(backup.made_at)}" if backup.made_at else ""
    if not confirm(args, f"Replace all jobs of {site} by the {_jobs(backup)} of the backup{when}?"):
        print("Nothing was changed.")
        return 1
    with _progress() as progress:
        done = maintenance.restore(site, file, force=args.force, say=tell, tell=progress)
    if done.backup:
        print(f"Backup of what was there: {done.backup}")
    if done.damaged:
        print(f"What was there is damaged; it is kept in {done.damaged}")
    print(f"Restored {_jobs(backup)} from {file}.")
    return 0


def run_copy(args: Namespace) -> int:
    """Copy the site to another database."""
    from balsam.client import relocation

    site = _site(args)
    with _progress() as progress:
        done = relocation.copy(
            site,
            args.to,
            switch=not args.no_switch,
            overwrite=args.overwrite,
            say=tell,
            tell=progress,
        )
    if args.json:
        print_json(msgspec.to_builtins(done))
        return 0
    rows = [(name, c.rows, c.checksum) for name, c in done.tables.items()]
    print(table(("table", "rows", "checksum"), rows))
    print(f"Copied to {done.target}; each table was read back and is the same.")
    if done.switched:
        print(f"The site goes on there. The old database keeps its rows: {done.source}")
    else:
        print(f"The site goes on at {done.source}")
    return 0


def run_check(args: Namespace) -> int:
    """Check the database."""
    from balsam.client import maintenance

    found = maintenance.check(_site(args), mend=args.repair, say=tell)
    if args.json:
        print_json({**msgspec.to_builtins(found), "sound": found.is_sound})
    else:
        print("\n".join(_report(found, args.repair)))
    return 0 if found.is_sound else 1


def _report(found: Check, repair: bool) -> Iterator[str]:
    yield from (f"damaged: {damage}" for damage in found.damages)
    for finding in found.findings:
        ids = ", ".join(map(str, finding.first))
        more = ", …" if finding.count > len(finding.first) > 0 else ""
        yield f"{finding.count} {finding.what}{f': {ids}{more}' if ids else ''}"
        if finding in found.repaired:
            yield f"  mended: {finding.repair}"
        elif finding.repair:
            yield f"  --repair: {finding.repair}" if not repair else "  could not be mended"
        else:
            yield "  no repair is surely right; look at them with `balsam show`"
    if found.damages:
        yield "Put the last good backup back: `balsam db restore FILE`."
    if found.unchecked:
        yield f"Note: {found.unchecked}."
    if not found.damages and not found.findings:
        yield "The database is sound."


def run_vacuum(args: Namespace) -> int:
    """Give back room."""
    from balsam.client import maintenance

    site = _site(args)
    room = maintenance.room_to_vacuum(site, tell)
    if room:
        tell(f"needs up to {_megabytes(room)} of room in {site} for as long as it takes")
    done = maintenance.vacuum_site(site, tell)
    print(f"The database took {_megabytes(done.before)} and takes {_megabytes(done.after)} now.")
    return 0


# words ------------------------------------------------------------------------------------


def _site(args: Namespace) -> Path:
    path = config.find_site(args.site)
    if not config.is_site(path):
        raise SiteError(f"there is no Balsam site at {path}; make it with `balsam init {path}`")
    remember(path)
    return path.resolve()


def _jobs(backup: Backup) -> str:
    count = backup.tables["jobs"].rows
    return f"{count} job{'s' if count != 1 else ''}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _record(backup: Backup) -> dict[str, Any]:
    record = msgspec.to_builtins(backup)
    del record["key"]  # the site's secret
    return {**record, "made_at": timestamp(backup.made_at)}


@contextmanager
def _progress() -> Iterator[Tell]:
    """Yield what draws a line of progress on a terminal, which is gone at the end."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    shown, last = "", 0.0

    def draw(what: str, done: int, total: int) -> None:
        nonlocal shown, last
        if what != shown or time.monotonic() - last > LOOK:
            shown, last = what, time.monotonic()
            print(
                f"\r\x1b[K{what}: {done:,} of {total:,} rows", end="", file=sys.stderr, flush=True
            )

    try:
        yield draw
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
