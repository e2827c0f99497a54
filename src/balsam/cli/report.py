"""`balsam report`: what a campaign did with its time."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balsam.cli import context, output, selectors
from balsam.errors import InvalidInput

if TYPE_CHECKING:
    from balsam.report.records import Summary


def add_commands(subparsers: Any) -> None:
    """Add the parser of ``report``."""
    parser = subparsers.add_parser(
        "report",
        help="write an HTML report of a campaign: utilization, throughput, failures, jobs",
        description="Write an HTML report of all jobs, or of those selected: utilization,"
        " throughput, failures by kind, applications, launchers, and the jobs. One file, which"
        " opens anywhere.",
        epilog="example: balsam report --wf sweep -o sweep.html",
    )
    selectors.add_selectors(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="the file to write (default: report.html; '-': standard output)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the numbers as JSON instead of writing a page"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the report; return the exit code."""
    from balsam.report.job_rows import job_rows
    from balsam.report.page import render
    from balsam.report.summary import summarize

    if args.json and args.output is not None:
        raise InvalidInput("--json prints numbers, --output writes a page; leave one out")
    file = args.output or Path("report.html")
    to_file = not args.json and str(file) != "-"
    if to_file:
        check_writable(file)
    with context.open_site(args) as client:
        query = selectors.query(args, client)
        summary = summarize(client, query, selection=_selection(args))
        if args.json:
            output.print_json(summary_record(summary))
            return 0
        page = render(summary, job_rows(client, query))
    if not to_file:
        sys.stdout.write(page)
        return 0
    write_page(file, page)
    print(f"wrote {file} ({summary.jobs} jobs)")
    return 0


def summary_record(summary: Summary) -> dict[str, Any]:
    """Return the JSON form of *summary*: its fields, times as ISO 8601 in UTC."""
    import msgspec

    record: dict[str, Any] = msgspec.to_builtins(summary)
    for part in (record, record["course"], *record["launchers"]):
        for key in part:
            if key.endswith("_at"):
                part[key] = output.timestamp(part[key])
    return record


def _selection(args: argparse.Namespace) -> str:
    """Return the selection as one would say it, for the heading."""
    words = [f"job {job}" for job in [*args.jobs, *([args.id] if args.id else [])]]
    words += [f"name {args.name}"] if args.name else []
    words += [f"workflow {args.wf}"] if args.wf else []
    words += [f"state {state}" for state in args.state or ()]
    words += [f"tag {tag}" for tag in args.tag]
    return ", ".join([*words, *args.filter])


def check_writable(file: Path) -> None:
    """Raise `InvalidInput` when *file* cannot be written, before any work is done."""
    if file.is_dir():
        raise InvalidInput(f"cannot write {file}: it is a directory; give the name of a file")
    if not file.absolute().parent.is_dir():
        raise InvalidInput(f"cannot write {file}: there is no directory {file.absolute().parent}")


def write_page(file: Path, page: str) -> None:
    """Write *page* to *file*, whole or not at all.

    Raises
    ------
    InvalidInput
        It cannot be written.
    """
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        aside.write_text(page, encoding="utf-8")
        aside.replace(file)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise InvalidInput(f"cannot write {file}: {error.strerror}") from error
