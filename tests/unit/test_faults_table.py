"""FAULTS.md: every fault of 0.x has a test that exists, or a part of Balsam that is to come."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NODE = re.compile(r"`([\w/]+\.py)::(\w+)`")
ROW = re.compile(r"^\| ([A-Z]\d*) \| (.+) \| (.+) \|$", re.MULTILINE)
ROWS = ROW.findall((TESTS / "FAULTS.md").read_text())
#: How many faults each letter has; without a number: the letter is one.
NUMBERED = {"A": 13, "B": 4, "C": 8, "L": 9, "S": 10}
FAULTS = {f"{letter}{n}" for letter, most in NUMBERED.items() for n in range(1, most + 1)}
LATER = {
    "Globus",
    "batch schedulers",
    "launcher on many nodes",
    "server",
    "service",
    "web UI",
}


@cache
def functions_of(file: Path) -> set[str]:
    """Return the names of the test functions of a file, without importing it."""
    tree = ast.parse(file.read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_no_fault_is_forgotten() -> None:
    assert {fault for fault, _, _ in ROWS} == FAULTS | set("DVPR")
    table = [line for line in (TESTS / "FAULTS.md").read_text().splitlines() if line[:1] == "|"]
    assert len(table) == len(ROWS) + 2, "a line of the table cannot be read"


@pytest.mark.parametrize(("fault", "what", "shown"), ROWS, ids=[f"{r[0]} {r[1]}" for r in ROWS])
def test_what_shows_a_fault_gone_is_there(fault: str, what: str, shown: str) -> None:
    if shown.startswith("*Later*: "):
        assert set(shown.removeprefix("*Later*: ").split(", ")) <= LATER
        return
    nodes = NODE.findall(shown)
    assert nodes
    assert "<br>".join(f"`{file}::{test}`" for file, test in nodes) == shown
    for file, test in nodes:
        assert test in functions_of(TESTS / file), f"{fault}, {what}: no {test} in {file}"
