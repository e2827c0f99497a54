"""The queues of the batch system: its limits, the site's policy, and what is free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from balsam.cli.output import table
from balsam.config import Settings
from balsam.schedulers.scheduler import Queue, Window

COLUMNS = ("queue", "open", "nodes", "minutes", "requests", "node", "free now", "the service")


def records(
    queues: Sequence[Queue], windows: Sequence[Window], settings: Settings
) -> list[dict[str, Any]]:
    """Return the JSON form of *queues*: their fields, `policy` and `windows`.

    The policy of a queue that the settings do not name is null.
    """
    found = []
    for queue in queues:
        policy = settings.queues.get(queue.name)
        found.append(
            {
                **msgspec.to_builtins(queue),
                "policy": None if policy is None else msgspec.to_builtins(policy),
                "windows": [
                    {"num_nodes": each.num_nodes, "minutes": each.minutes}
                    for each in windows
                    if each.queue == queue.name
                ],
            }
        )
    return found


def as_table(found: Sequence[dict[str, Any]]) -> str:
    """Return *records* as a table."""
    return table(COLUMNS, [_row(record) for record in found])


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    name = f"{record['name']}{' (default)' if record['is_default'] else ''}"
    closed = f"no: {record['comment']}" if record["comment"] else "no"
    return (
        name,
        "yes" if record["is_open"] else closed,
        _range(record["min_nodes"], record["max_nodes"]),
        _range(record["min_minutes"], record["max_minutes"]),
        "" if record["max_queued"] is None else f"at most {record['max_queued']}",
        _node(record),
        ", ".join(map(_window, record["windows"])),
        "" if record["policy"] is None else _policy(record["policy"]),
    )


def _range(least: float | None, most: float | None) -> str:
    if most is None:
        return f"from {least:g}" if least and least > 1 else ""
    return f"{least:g} to {most:g}" if least else f"up to {most:g}"


def _node(record: dict[str, Any]) -> str:
    count = f"{record['nodes']} with " if record["nodes"] else ""
    parts = [f"{record['cores_per_node']} cores"] if record["cores_per_node"] else []
    parts += [f"{record['gpus_per_node']} GPUs"] if record["gpus_per_node"] else []
    parts += [f"{record['memory_mib']} MiB"] if record["memory_mib"] else []
    return f"{count}{', '.join(parts)}" if parts else str(record["nodes"] or "")


def _window(window: dict[str, Any]) -> str:
    time = "" if window["minutes"] is None else f" for {window['minutes']:g} min"
    return f"{window['num_nodes']} node{'s' if window['num_nodes'] != 1 else ''}{time}"


def _policy(policy: dict[str, Any]) -> str:
    if not policy["use"]:
        return "does not use it"
    parts = [f"at most {policy['max_queued']} requests"]
    for unit in ("nodes", "minutes"):
        least, most = policy[f"min_{unit}"], policy[f"max_{unit}"]
        if most:
            parts.append(f"{least:g} to {most:g} {unit}")
        elif least > 1:
            parts.append(f"{least:g} {unit} or more")
    return ", ".join(parts)
