"""Small WfFormat documents, to be spoiled by tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: 58 tasks of the Montage recipe of WfCommons 1.6.
MONTAGE = Path(__file__).with_name("montage-58.json")


def diamond() -> dict[str, Any]:
    """A document of version 1.5: split → left, right → join, told at one end or the other."""

    def task(
        name: str, parents: str = "", children: str = "", **files: list[str]
    ) -> dict[str, Any]:
        ends = {"parents": parents.split(), "children": children.split()}
        return {"name": name, "id": f"{name}_1", **ends, **files}

    return {
        "name": "diamond",
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": [
                    task(
                        "join", "left_1 right_1", inputFiles=["a", "b", "in"], outputFiles=["out"]
                    ),
                    task("left", "split_1", "join_1", inputFiles=["s"], outputFiles=["a"]),
                    task("right", "", "", inputFiles=["s"], outputFiles=["b"]),
                    task("split", "", "right_1", inputFiles=["in"], outputFiles=["s"]),
                ],
                "files": [
                    {"id": name, "sizeInBytes": size}
                    for name, size in {"in": 1000, "s": 10, "a": 20, "b": 30, "out": 0}.items()
                ],
            },
            "execution": {
                "makespanInSeconds": 9,
                "executedAt": "2026-01-01T00:00:00Z",
                "tasks": [
                    {
                        "id": "left_1",
                        "runtimeInSeconds": 120,
                        "coreCount": 1.5,
                        "memoryInBytes": 3 * 2**20 + 1,
                        "priority": 7,
                        "command": {"program": "/opt/bin/left", "arguments": ["-n 3", "s", "a"]},
                    },
                    {
                        "id": "split_1",
                        "runtimeInSeconds": 60,
                        "command": {"program": "split"},
                        "avgCPU": 99.5,
                        "machines": ["node1"],
                    },
                ],
            },
        },
    }


def old_diamond() -> dict[str, Any]:
    """The same in version 1.4: parents by name or by id, files and runs inside the tasks."""

    def task(number: int, name: str, parents: list[str], reads: str, writes: str) -> dict[str, Any]:
        files = [{"link": "input", "name": one, "sizeInBytes": 5} for one in reads.split()]
        files += [{"link": "output", "name": one, "sizeInBytes": 5} for one in writes.split()]
        return {
            "name": name,
            "id": f"ID{number}",
            "type": "compute",
            "parents": parents,
            "files": files,
            "runtimeInSeconds": number,
            "cores": 2,
        }

    return {
        "name": "old diamond",
        "schemaVersion": "1.4",
        "wms": {"name": "Pegasus", "version": "5"},
        "workflow": {
            "makespanInSeconds": 3,
            "executedAt": "20200101T000000Z",
            "tasks": [
                task(1, "split", [], "in", "s"),
                task(2, "left", ["split"], "s", "a"),
                task(3, "right", ["ID1"], "s", "b"),
                task(4, "join", ["left_ID2", "right"], "a b in", "out"),
            ],
        },
    }


def encoded(document: dict[str, Any]) -> bytes:
    """Return *document* as it is in a file."""
    return json.dumps(document).encode()
