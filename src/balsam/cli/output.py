"""How results are printed: text tables, and JSON as the contract says."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from balsam.model.app import App
from balsam.model.batch_job import BatchJob
from balsam.model.job import Job
from balsam.model.retry import rules_of, rules_text
from balsam.model.run_time import RunTime
from balsam.model.transfer import Transfer
from balsam.model.wire import Attempt, Event, Placement, parts_of


def timestamp(seconds: float | None) -> str | None:
    """Return *seconds* since the epoch as ISO 8601 in UTC, ``2031-05-04T03:02:01.000000Z``."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds_between(start: str, end: str) -> float:
    """Return the seconds from one `timestamp` to another."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def history_line(event: Event) -> str:
    """Return *event* as Balsam 0.x wrote it: ``[MM-DD-YYYY HH:MM:SS.ffffff STATE] message``."""
    moment = datetime.fromtimestamp(event.time, UTC).strftime("%m-%d-%Y %H:%M:%S.%f")
    return f"[{moment} {event.to_state}] {event.message}".rstrip()


def duration(seconds: float) -> str:
    """Return *seconds* in words: ``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``."""
    minutes = int(max(0.0, seconds)) // 60
    if minutes < 1:
        return f"{int(max(0.0, seconds))} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes // 60 % 24} h"


def is_time(field: str) -> bool:
    """Tell whether *field* holds seconds since the epoch."""
    return field == "time" or field.endswith("_at")


_TIMES = {
    kind: tuple(filter(is_time, kind.__struct_fields__))
    for kind in (Job, App, BatchJob, Event, Attempt, Transfer)
}


def _record(struct: Job | App | BatchJob | Event | Attempt | Transfer) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.to_builtins(struct)
    for field in _TIMES[type(struct)]:
        record[field] = timestamp(record[field])
    return record


def job_record(job: Job) -> dict[str, Any]:
    """Return the JSON form of *job*: every field under its Python name."""
    return _record(job)


def app_record(app: App) -> dict[str, Any]:
    """Return the JSON form of *app*."""
    return _record(app)


def event_record(event: Event) -> dict[str, Any]:
    """Return the JSON form of *event*: time, job_id, from_state, to_state, message, job, id."""
    return _record(event)


def batch_job_record(batch_job: BatchJob) -> dict[str, Any]:
    """Return the JSON form of *batch_job*."""
    return _record(batch_job)


def attempt_record(attempt: Attempt) -> dict[str, Any]:
    """Return the JSON form of *attempt*: its fields, and `signal`, the name of what ended it.

    The placement is an array of what it had of each node.
    """
    placement = msgspec.to_builtins(parts_of(attempt.placement))
    return {**_record(attempt), "placement": placement, "signal": attempt.signal}


def transfer_record(transfer: Transfer) -> dict[str, Any]:
    """Return the JSON form of *transfer*."""
    return _record(transfer)


def run_time_record(run_time: RunTime) -> dict[str, Any]:
    """Return the JSON form of *run_time*: its fields, and `longest_seconds` (null: not known)."""
    return {**msgspec.to_builtins(run_time), "longest_seconds": run_time.longest}


def print_json(value: Any) -> None:
    """Print *value* as JSON, in UTF-8; an iterable goes out a record a line, in constant memory."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | dict):
        write = sys.stdout.write
        separator = "[\n"
        for record in value:
            write(f"{separator} {msgspec.json.encode(record).decode()}")
            separator = ",\n"
        write("[]\n" if separator == "[\n" else "\n]\n")
    else:
        print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def text(field: str, value: Any) -> str:
    """Return *value* of *field* as text, in full; None and what is empty are ''."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if field == "retry":
        return rules_text(rules_of(value))
    if field == "placement":
        return "; ".join(map(str, msgspec.convert(value, list[Placement])))
    if is_time(field):
        return timestamp(value) or ""
    if field == "function" and value.get("code"):
        value = {**value, "code": f"({len(value['code'])} characters)"}
    if field == "function" and value.get("functions"):
        sizes = {name: f"({len(code)} characters)" for name, code in value["functions"].items()}
        value = {**value, "functions": sizes}
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode() if value else ""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table: header to the right, a line, values to the left, `` | `` between.

    A line break inside a value is shown as a blank, so that each row stays a line.
    """
    cells = [[_one_line(value) for value in row] for row in rows]
    widths = [len(header) for header in headers]
    for row in cells:
        for n, cell in enumerate(row):
            widths[n] = max(widths[n], len(cell))
    head = " | ".join(h.rjust(w) for h, w in zip(headers, widths, strict=True))
    lines = [head, "-" * len(head)]
    for row in cells:
        lines.append(" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    return "\n".join(lines)


def print_fields(title: str, record: dict[str, Any]) -> None:
    """Print *title*, underlined, and each field of *record* on a line, then an empty one."""
    width = max(map(len, record))
    print(f"{title}\n{'-' * len(title)}")
    for name, value in record.items():
        print(f"{name.rjust(width)}: {text(name, value)}".rstrip())
    print()


def _one_line(value: object) -> str:
    cell = str(value)
    return cell if cell.isprintable() else " ".join(cell.split())
