"""`balsam why`: what jobs wait for, and what would help."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from balsam.cli import output
from balsam.cli.context import open_site
from balsam.cli.selectors import add_selectors, query
from balsam.errors import NotFound

if TYPE_CHECKING:
    from balsam.report.reasons.findings import Answer, Group


def add_commands(subparsers: Any) -> None:
    """Add `why`."""
    parser = subparsers.add_parser(
        "why",
        help="why a job does not run, and what would help",
        description="Say in one sentence what each of the selected jobs waits for, and in one what"
        " would help. With --all, count all jobs that have not ended by what they wait for.",
        epilog="Only the site's database is asked, so it works from anywhere, also while all else"
        " is down. JSON is one object for one JOB, else an array.\n\n"
        "examples:\n  balsam why 12\n  balsam why 12 --verbose\n  balsam why --wf scan --state"
        " FAILED\n  balsam why --all",
    )
    add_selectors(parser, require_choice=True)
    parser.add_argument(
        "--verbose", action="store_true", help="also what was looked at, and what was found there"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Say why jobs wait."""
    from balsam.report.why import explain, explain_all

    with open_site(args) as client:
        selected = query(args, client)
        if args.all:
            _print_groups(explain_all(client), as_json=args.json)
            return 0
        answers = explain(client, selected)
        first = next(answers, None)
        if first is None:
            raise NotFound("no job matches; `balsam ls` with the same selection shows what does")
        if args.json and _is_one(args):
            output.print_json(_record(first))
        elif args.json:
            output.print_json(map(_record, _all_of(first, answers)))
        else:
            for answer in _all_of(first, answers):
                _print(answer, verbose=args.verbose)
    return 0


def _is_one(args: argparse.Namespace) -> bool:
    return len(args.jobs) == 1 or (args.id is not None and not args.jobs)


def _all_of(first: Answer, others: Any) -> Any:
    yield first
    yield from others


def _record(answer: Answer) -> dict[str, Any]:
    import msgspec

    record: dict[str, Any] = msgspec.to_builtins(answer)
    return record


def _print(answer: Answer, *, verbose: bool) -> None:
    print(f"{answer.id} {answer.name} ({answer.state}) {answer.waits_for}.")
    if answer.help:
        print(f"    help: {answer.help}")
    if verbose:
        for each in answer.layers:
            print(f"    {each.layer.rjust(10)}: {each.found}")


def _print_groups(groups: list[Group], *, as_json: bool) -> None:
    if as_json:
        output.print_json(map(_record_of, groups))
        return
    if not groups:
        print("No job waits: all have ended.")
    for group in groups:
        jobs = "1 job" if group.count == 1 else f"{group.count} jobs"
        print(f"{jobs}: {group.reason}. Such as job {group.example}, which {group.waits_for}.")
        if group.help:
            print(f"    help: {group.help}")


def _record_of(group: Group) -> dict[str, Any]:
    import msgspec

    record: dict[str, Any] = msgspec.to_builtins(group)
    return record
