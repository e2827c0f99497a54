"""`balsam ls transfers`: what was, and is, moved for jobs."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from balsam.cli import columns, output
from balsam.cli.context import warn
from balsam.cli.selectors import condition, resolve
from balsam.client.interface import Client
from balsam.client.job_ids import with_ids
from balsam.errors import InvalidInput, nearest
from balsam.model.query import Filter, Query, check_order
from balsam.model.transfer import Transfer, TransferState
from balsam.model.wire import LauncherKind

COLUMNS = (
    "job",
    "direction",
    "state",
    "files",
    "moved",
    "seconds",
    "attempts",
    "by",
    "url",
    "error",
)


def print_transfers(args: argparse.Namespace, client: Client) -> None:
    """Print the transfers that *args* (of `ls`) select."""
    limit = (args.limit or None) if args.json else columns.limit(args.limit, client.path)
    order = check_order(tuple(args.order.split(",")), "transfers") if args.order else ()
    selected = with_ids(Query(filters=_filters(args, client)), client, "transfers")
    asked = Query(filters=selected.filters, order=order, limit=limit and limit + 1)
    found = client.transfers(asked)
    cut = limit is not None and len(found) > limit
    found = found[:limit]
    if args.json:
        output.print_json(map(output.transfer_record, found))
        return
    if not found:
        print("No transfers found matching query")
        return
    services = {one.id for one in client.launchers(live=False, kind=LauncherKind.SERVICE)}
    print(output.table(COLUMNS, [row(each, client.now(), services) for each in found]))
    if cut:
        warn(f"only {limit} are shown; --limit 0 or BALSAM_LS_LIMIT=0 shows all")


def _filters(args: argparse.Namespace, client: Client) -> tuple[Filter, ...]:
    filters: list[Filter] = []
    if args.id is not None:
        filters.append(Filter("job", (), "exact", resolve(client, args.id)))
    if args.state:
        states = [word.strip().lower() for item in args.state for word in item.split(",")]
        known = [str(state) for state in TransferState]
        for state in states:
            if state not in known:
                raise InvalidInput(
                    f"there is no state {state!r} of transfers; the states are"
                    f" {', '.join(known)}.{nearest(state, known)}"
                )
        filters.append(Filter("state", (), "in", states))
    if args.wf:
        filters.append(Filter("workflow", (), "icontains", args.wf))
    for item in args.filter:
        filters += condition(item, "transfers")
    return tuple(filters)


def row(transfer: Transfer, now: float, services: Collection[int]) -> list[str]:
    """Return what a table shows of *transfer*; *services* are launchers that services were."""
    launcher = transfer.launcher_id
    started, ended = transfer.started_at, transfer.ended_at
    seconds = "" if started is None else f"{(ended or now) - started:.1f}"
    return [
        str(transfer.job),
        transfer.direction,
        transfer.state,
        str(transfer.files),
        _moved(transfer),
        seconds,
        str(transfer.attempts),
        "the service" if launcher in services else f"launcher {launcher}",
        transfer.url,
        transfer.error,
    ]


def _moved(transfer: Transfer) -> str:
    """Return how much was moved: ``3.2 MB of 10.0 MB, 32 %``."""
    done, total = transfer.bytes_done, transfer.bytes_total
    if total is None or (transfer.state is TransferState.DONE and done >= total):
        return _size(done)
    share = f", {100 * done // total} %" if total else ""
    return f"{_size(done)} of {_size(total)}{share}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
