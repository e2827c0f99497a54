"""`balsam ls`: tables of jobs, apps, workflows, batch jobs, events, transfers and run times."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from msgspec.structs import replace

from balsam.cli import columns, output, transfers, tree
from balsam.cli.context import open_site, warn
from balsam.cli.selectors import add_selectors, condition, query, resolve, state_filter
from balsam.client.interface import Client
from balsam.client.job_ids import with_ids
from balsam.errors import InvalidInput
from balsam.model.batch_job import BatchJob
from balsam.model.job import Job
from balsam.model.query import Filter, Query, check_order, parse
from balsam.model.states import STATES, State
from balsam.model.wire import Event

#: Options that each kind of row understands.
TAKES = {
    "jobs": {
        *("name", "id", "state", "wf", "tag", "filter", "json", "limit", "order"),
        *("history", "by_states", "verbose", "tree", "width", "depth"),
    },
    "apps": {"name", "id", "filter", "json", "limit", "order", "verbose"},
    "wf": {
        *("name", "id", "state", "wf", "tag", "filter", "json"),
        *("verbose", "tree", "width", "depth"),
    },
    "queues": {"id", "state", "filter", "json", "limit", "order", "verbose"},
    "events": {"id", "state", "wf", "filter", "json", "limit", "order"},
    "transfers": {"id", "state", "wf", "filter", "json", "limit", "order"},
    "times": {"name", "json"},
}
EPILOG = """\
The columns are id, name, workflow, application, state, and those that BALSAM_LS_FIELDS or
the setting ls.fields name (a:b:data__key). At most ls.limit rows are shown (BALSAM_LS_LIMIT,
--limit; 0: all); JSON is cut by --limit alone. Of events, the latest are shown.

examples:
  balsam ls --state FAILED --wf alloys
  BALSAM_LS_FIELDS=num_nodes:data__energy balsam ls --order -priority --limit 20
  balsam ls --by-states --json
  balsam ls --tree --wf alloys --width 5"""


def add_commands(subparsers: Any) -> None:
    """Add `ls`."""
    parser = subparsers.add_parser(
        "ls",
        help="list jobs, apps, workflows, batch jobs, events, transfers or run times",
        description="List jobs, apps, workflows (wf), batch jobs (queues), events, transfers of"
        " files, or how long the runs of apps took (times).",
        epilog=EPILOG,
    )
    parser.add_argument(
        "kind", nargs="?", choices=tuple(TAKES), default="jobs", help="what to list (jobs)"
    )
    add_selectors(parser, positional=False)
    view = parser.add_mutually_exclusive_group()
    view.add_argument("--history", action="store_true", help="every job with its events")
    view.add_argument("--by-states", action="store_true", help="how many jobs are in each state")
    view.add_argument("--verbose", action="store_true", help="every field")
    view.add_argument("--tree", action="store_true", help="parents above their children")
    parser.add_argument("--json", action="store_true", help="print JSON")
    tree.add_options(parser)
    parser.add_argument("--limit", type=columns.row_limit, metavar="N", help="at most N rows")
    parser.add_argument("--order", metavar="FIELD[,…]", help="sort; -FIELD: the largest first")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List rows of one kind."""
    _refuse_options(args)
    with open_site(args) as client:
        match args.kind:
            case "jobs":
                _jobs(args, client)
            case "wf":
                _workflows(args, client)
            case "events":
                _events(args, client)
            case "transfers":
                transfers.print_transfers(args, client)
            case "times":
                _times(args, client)
            case _:
                _others(args, client)
    return 0


def _refuse_options(args: argparse.Namespace) -> None:
    takes = TAKES[args.kind]
    for option in sorted(TAKES["jobs"] - takes):
        if getattr(args, option):
            known = " ".join(f"--{name}" for name in sorted(takes)).replace("_", "-")
            raise InvalidInput(
                f"`ls {args.kind}` has no --{option.replace('_', '-')}; it takes {known}"
            )
    if args.json and args.verbose:
        raise InvalidInput("--json and --verbose exclude each other; JSON has every field")
    tree.check_options(args)


def _ordered(selected: Query, args: argparse.Namespace, kind: str, limit: int | None) -> Query:
    order = check_order(tuple(args.order.split(",")), kind) if args.order else ()
    return replace(selected, order=order, limit=limit)


# jobs ------------------------------------------------------------------------------------


def _jobs(args: argparse.Namespace, client: Client) -> None:
    selected = query(args, client, several=True)
    if args.by_states:
        _by_states(args, client.state_counts(selected))
    elif args.tree:
        tree.print_tree(args, client, selected)
    elif args.json:
        jobs = _all_jobs(args, client, selected)
        records = _with_events(client, jobs) if args.history else map(output.job_record, jobs)
        output.print_json(records)
    elif args.history:
        jobs = _shown_jobs(args, client, selected, ["name", "job_id"])
        for job, events in _histories(client, jobs):
            print(f"Job {job.name} [{job.id} | {job.job_id}]")
            print("-" * 48)
            print("\n".join(map(output.history_line, events)), end="\n\n")
    elif args.verbose:
        for job in _shown_jobs(args, client, selected, None):
            output.print_fields(f"Job {job.id}", output.job_record(job))
    else:
        shown = columns.job_columns(client.path)
        jobs = _shown_jobs(args, client, selected, [name.split("__")[0] for name in shown])
        if jobs:
            rows = ([columns.cell(job, name) for name in shown] for job in jobs)
            print(output.table(shown, rows))


def _by_states(args: argparse.Namespace, counts: dict[State, int]) -> None:
    if args.json:
        output.print_json({str(state): counts[state] for state in STATES if state in counts})
    elif not counts:
        print("No jobs found matching query")
    else:
        for state in STATES:
            if state in counts:
                print(f"{state.rjust(16)}  {counts[state]}")


def _all_jobs(args: argparse.Namespace, client: Client, selected: Query) -> Iterable[Job]:
    limited = _ordered(selected, args, "jobs", args.limit or None)
    if limited.order or limited.limit:
        return client.jobs(limited)
    return client.iterate_jobs(limited)


def _shown_jobs(
    args: argparse.Namespace, client: Client, selected: Query, fields: list[str] | None
) -> list[Job]:
    """Return the jobs to show, at most the limit; say so when there are more, or none."""
    limit = columns.limit(args.limit, client.path)
    jobs = client.jobs(_ordered(selected, args, "jobs", limit and limit + 1), fields)
    if not jobs:
        print("No jobs found matching query")
    if limit and len(jobs) > limit:
        _tell_cut(limit, client.count_jobs(selected))
        del jobs[limit:]
    return jobs


def _tell_cut(shown: int, total: int | None = None) -> None:
    of = f"of {total} rows " if total else ""
    warn(f"{of}only {shown} are shown; --limit 0 or BALSAM_LS_LIMIT=0 shows all")


def _histories(client: Client, jobs: Iterable[Job]) -> Iterator[tuple[Job, list[Event]]]:
    """Yield each job with its events, oldest first, a page of jobs at a time."""
    left = iter(jobs)
    while page := list(islice(left, 1000)):
        filters = parse({"job__in": [job.id for job in page]}, "events")
        events: dict[int | None, list[Event]] = {}
        for event in client.iterate_events(Query(filters=filters)):
            events.setdefault(event.job, []).append(event)
        for job in page:
            yield job, events.get(job.id, [])


def _with_events(client: Client, jobs: Iterable[Job]) -> Iterator[dict[str, Any]]:
    for job, events in _histories(client, jobs):
        yield {**output.job_record(job), "events": [output.event_record(e) for e in events]}


# workflows, events -----------------------------------------------------------------------


def _workflows(args: argparse.Namespace, client: Client) -> None:
    if args.name and not args.wf:
        args.name, args.wf = None, args.name  # of a workflow, its name is meant
    selected = query(args, client, several=True)
    if args.tree:
        args.limit = None
        tree.print_tree(args, client, selected, by_workflow=True)
        return
    found = sorted(client.workflow_counts(selected).items())
    if args.json:
        output.print_json(
            {
                "workflow": workflow,
                "jobs": sum(counts.values()),
                "by_state": {str(s): counts[s] for s in STATES if s in counts},
            }
            for workflow, counts in found
        )
    elif not found:
        print("No workflows found matching query")
    elif args.verbose:
        for workflow, counts in found:
            print(f"{workflow}\n{'-' * len(workflow)}")
            _by_states(args, counts)
            print()
    else:
        rows = []
        for workflow, counts in found:
            states = ", ".join(f"{counts[s]} {s}" for s in STATES if s in counts)
            rows.append((workflow, sum(counts.values()), states))
        print(output.table(("workflow", "jobs", "states"), rows))


def _events(args: argparse.Namespace, client: Client) -> None:
    filters: list[Filter] = []
    if args.id is not None:
        filters.append(Filter("job", (), "exact", resolve(client, args.id)))
    if args.state:
        filters += state_filter(args.state, "to_state")
    if args.wf:
        filters.append(Filter("workflow", (), "icontains", args.wf))
    for item in args.filter:
        filters += condition(item, "events")
    selected = with_ids(Query(filters=tuple(filters)), client, "events")
    if args.json and not args.limit and not args.order:
        output.print_json(map(output.event_record, client.iterate_events(selected)))
        return
    limit = (args.limit or None) if args.json else columns.limit(args.limit, client.path)
    asked = _ordered(selected, args, "events", limit and limit + 1)
    # Without another order the latest are wanted, the latest of them last.
    events = client.events(asked if asked.order else replace(asked, order=("-id",)))
    cut = limit is not None and len(events) > limit
    events = events[:limit]
    if not asked.order:
        events.reverse()
    if args.json:
        output.print_json(map(output.event_record, events))
    elif not events:
        print("No events found matching query")
    else:
        shown = ("time", "job", "from_state", "to_state", "message")
        rows = ([output.text(name, getattr(event, name)) for name in shown] for event in events)
        print(output.table(shown, rows))
        if cut:
            _tell_cut(len(events))


# run times -------------------------------------------------------------------------------


def _times(args: argparse.Namespace, client: Client) -> None:
    named = (args.name or "").lower()
    found = [each for each in client.run_times() if named in each.application.lower()]
    records = [output.run_time_record(each) for each in found]
    if args.json:
        output.print_json(records)
    elif not records:
        print("No run times found matching query")
    else:
        rows = ([_rounded(*cell) for cell in record.items()] for record in records)
        print(output.table(list(records[0]), rows))


def _rounded(field: str, value: Any) -> str:
    return output.text(field, round(value, 3) if isinstance(value, float) else value)


# apps, batch jobs ------------------------------------------------------------------------

APP_COLUMNS: tuple[str, ...] = ("id", "name", "executable", "description")
BATCH_COLUMNS: tuple[str, ...] = (
    *("id", "scheduler_id", "project", "queue", "num_nodes", "wall_time_minutes"),
    *("state", "job_mode", "wf_filter", "message"),
)


def _others(args: argparse.Namespace, client: Client) -> None:
    kind = "apps" if args.kind == "apps" else "batch_jobs"
    filters: list[Filter] = []
    if args.id is not None:
        if not args.id.isdecimal():
            raise InvalidInput(f"--id {args.id!r} of `ls {args.kind}` is a number")
        filters.append(Filter("id", (), "exact", int(args.id)))
    if args.name:
        filters.append(Filter("name", (), "icontains", args.name))
    if args.state:
        filters.append(Filter("state", (), "in", args.state))
    for item in args.filter:
        filters += condition(item, kind)
    limit = (args.limit or None) if args.json else columns.limit(args.limit, client.path)
    asked = _ordered(Query(filters=tuple(filters)), args, kind, limit and limit + 1)
    found: list[dict[str, Any]]
    batch_jobs: list[BatchJob] = []
    if kind == "apps":
        found, shown = [output.app_record(app) for app in client.apps(asked)], APP_COLUMNS
    else:
        from balsam.cli.batch_system import refresh

        refresh(client)
        batch_jobs = client.batch_jobs(asked)
        found, shown = [output.batch_job_record(b) for b in batch_jobs], BATCH_COLUMNS
    cut = limit is not None and len(found) > limit
    found = found[:limit]
    if args.json:
        output.print_json(found)
    elif not found:
        print(f"No {kind.replace('_', ' ')} found matching query")
    elif args.verbose and batch_jobs:
        from balsam.cli.batch_output import print_fields

        for batch_job in batch_jobs[:limit]:
            print_fields(client.path, batch_job)
    elif args.verbose:
        for record in found:
            output.print_fields(f"App {record['id']}", record)
    else:
        rows = ([output.text(name, record[name]) for name in shown] for record in found)
        print(output.table(shown, rows))
    if cut and not args.json:
        _tell_cut(len(found))
