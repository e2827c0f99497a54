"""`balsam show`: everything about a job."""

from __future__ import annotations

import argparse
from typing import Any

from balsam.cli import columns, output
from balsam.cli.context import open_site
from balsam.cli.selectors import resolve_all
from balsam.client.interface import Client
from balsam.errors import NotFound
from balsam.model.graph import Kind
from balsam.model.job import Job
from balsam.model.query import Query, parse
from balsam.model.retry import signal_name
from balsam.model.states import TABLE
from balsam.model.transfer import Transfer
from balsam.model.wire import Attempt, Event

ATTEMPT_COLUMNS = (
    *("number", "outcome", "node", "launcher_id", "pid", "started_at", "seconds"),
    *("exit_code", "signal", "peak_memory_mib", "cpu_seconds", "placement", "message"),
)


TRANSFER_COLUMNS = (
    *("direction", "url", "state", "files", "bytes_done", "bytes_total", "attempts"),
    *("started_at", "ended_at", "error"),
)


def add_commands(subparsers: Any) -> None:
    """Add `show`."""
    parser = subparsers.add_parser(
        "show",
        help="everything about a job, with its attempts",
        description="Show all fields of a job, its attempts and its events.",
        epilog="JSON is one object for one JOB, an array for several.\n\n"
        "examples:\n  balsam show 12\n  cd $(balsam show 12 --field workdir)",
    )
    parser.add_argument(
        "jobs",
        nargs="+",
        metavar="JOB",
        help="id, UUID, or the first hexadecimal digits of the UUID",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--json", action="store_true", help="print JSON")
    choice.add_argument(
        "--field", metavar="FIELD", help="print the bare value of this field (data__key: of a key)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show jobs."""
    field = columns.check_field(args.field, "--field") if args.field else None
    with open_site(args) as client:
        ids = resolve_all(client, args.jobs)
        wanted = Query().where(id__in=ids)
        if field:
            found = {job.id: job for job in client.jobs(wanted, [field.split("__")[0]])}
            for job in _in_order(ids, found):
                print(columns.cell(job, field) or _empty(columns.value_of(job, field)))
            return 0
        jobs = _in_order(ids, {job.id: job for job in client.jobs(wanted)})
        records = _complete_records(client, ids, jobs)
    if args.json:
        output.print_json(records[0] if len(records) == 1 else records)
    else:
        for job, record in zip(jobs, records, strict=True):
            _print(job, record)
    return 0


def _empty(value: Any) -> str:
    return "{}" if isinstance(value, dict) else "[]" if isinstance(value, list) else ""


def _in_order(ids: list[int], found: dict[int | None, Job]) -> list[Job]:
    for number in ids:
        if number not in found:
            raise NotFound(f"there is no job {number}; it was removed a moment ago")
    return [found[number] for number in ids]


def _complete_records(client: Client, ids: list[int], jobs: list[Job]) -> list[dict[str, Any]]:
    """Return the JSON form of *jobs* with their children, attempts and events."""
    attempts: dict[int, list[Attempt]] = {n: [] for n in ids}
    for attempt in client.attempts(ids):
        attempts[attempt.job].append(attempt)
    events: dict[int, list[Event]] = {n: [] for n in ids}
    for event in client.iterate_events(Query(filters=parse({"job__in": ids}, "events"))):
        events[event.job].append(event)
    children: dict[int, list[tuple[int, Kind]]] = {n: [] for n in ids}
    for parent, child, kind in client.dependencies(ids):
        if parent in children:
            children[parent].append((child, kind))
    transfers: dict[int, list[Transfer]] = {n: [] for n in ids}
    for transfer in client.transfers(Query(filters=parse({"job__in": ids}, "transfers"))):
        transfers[transfer.job].append(transfer)
    records = []
    for number, job in zip(ids, jobs, strict=True):
        record = output.job_record(job)
        record["children"] = sorted(child for child, _ in children[number])
        record["attempts"] = [output.attempt_record(a) for a in attempts[number]]
        record["transfers"] = [output.transfer_record(t) for t in transfers[number]]
        record["events"] = [output.event_record(e) for e in events[number]]
        records.append(record)
    return records


def _print(job: Job, record: dict[str, Any]) -> None:
    title = f"Job {job.id}: {job.name}"
    print(f"{title}\n{'-' * len(title)}")
    width = max(map(len, record))
    for name, value in record.items():
        if name in ("attempts", "transfers", "events"):
            continue
        print(f"{name.rjust(width)}: {output.text(name, value)}{_note(job, name)}".rstrip())
    if record["attempts"]:
        print("\nAttempts")
        print(output.table(ATTEMPT_COLUMNS, [_attempt_row(a) for a in record["attempts"]]))
    if record["transfers"]:
        print("\nTransfers")
        print(output.table(TRANSFER_COLUMNS, [_transfer_row(t) for t in record["transfers"]]))
    print("\nEvents")
    for event in record["events"]:
        was = event["from_state"] or "-"
        print(f"{event['time']}  {was} -> {event['to_state']}  {event['message']}".rstrip())
    print()


def _note(job: Job, field: str) -> str:
    """Return what is said behind the value of a field."""
    said = {"state": TABLE[job.state].text, "exit_code": signal_name(job.exit_code)}.get(field)
    return f"  ({said})" if said else ""


def _transfer_row(record: dict[str, Any]) -> list[str]:
    return [output.text(name, record[name]) for name in TRANSFER_COLUMNS]


def _attempt_row(record: dict[str, Any]) -> list[str]:
    started, ended = record["started_at"], record["ended_at"]
    seconds = output.seconds_between(started, ended) if started and ended else None
    row = {**record, "seconds": seconds}
    for name, value in row.items():
        if isinstance(value, float):
            row[name] = round(value, 3)
    return [output.text(name, row[name]) for name in ATTEMPT_COLUMNS]
