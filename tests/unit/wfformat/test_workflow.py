"""Reading WfFormat: what tasks, dependencies and files a file means, and what is wrong in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balsam.errors import BalsamError, CyclicDependency, InvalidInput
from balsam.wfformat.workflow import Workflow, read
from tests.unit.wfformat.documents import MONTAGE, diamond, encoded, old_diamond

TASKS = "$.workflow.specification.tasks"
RUNS = "$.workflow.execution.tasks"


def edges(workflow: Workflow) -> set[tuple[str, str]]:
    """All (parent, child) as the first parts of their ids."""
    ids = [task.id.partition("_")[0] for task in workflow.tasks]
    return {(ids[p], ids[n]) for n, task in enumerate(workflow.tasks) for p in task.parents}


DIAMOND = {("split", "left"), ("split", "right"), ("left", "join"), ("right", "join")}


@pytest.mark.parametrize("version", ["1.5", "1.6"])
def test_a_document_is_read_with_what_either_end_of_a_dependency_says(version: str) -> None:
    document = diamond()
    document["schemaVersion"] = version
    workflow = read(b"\xef\xbb\xbf" + encoded(document))
    assert (workflow.name, workflow.version) == ("diamond", version)
    assert edges(workflow) == DIAMOND
    assert workflow.sizes == {"a": 20, "b": 30, "in": 1000, "out": 0, "s": 10}
    assert workflow.given_files == ["in"]
    join, left, right, split = workflow.tasks
    assert (left.seconds, left.cores, left.priority) == (120, 1.5, 7)
    assert (left.program, left.arguments) == ("/opt/bin/left", ["-n 3", "s", "a"])
    assert (right.seconds, right.cores, right.program) == (0, 1, "")
    assert join.made_before == {"a", "b"}
    assert split.made_before == set()
    assert workflow.notes == []


def test_a_document_of_1_4_refers_to_parents_by_name_or_id() -> None:
    workflow = read(encoded(old_diamond()))
    assert edges(workflow) == DIAMOND
    assert [task.id for task in workflow.tasks][:2] == ["split_ID1", "left_ID2"]
    assert [task.seconds for task in workflow.tasks] == [1, 2, 3, 4]
    assert workflow.tasks[3].made_before == {"a", "b"}
    assert workflow.given_files == ["in"]


def test_dependencies_of_1_4_come_of_the_files_where_there_are_no_others() -> None:
    document = old_diamond()
    for task in document["workflow"]["tasks"]:
        task["parents"] = []
    assert edges(read(encoded(document))) == DIAMOND


def test_what_wfcommons_makes_is_read() -> None:
    workflow = read(MONTAGE.read_bytes())
    declared = json.loads(MONTAGE.read_text())["workflow"]["specification"]["metrics"]
    assert len(workflow.tasks) == declared["numberOfTasks"]
    assert len(workflow.sizes) == declared["numberOfFiles"]
    assert sum(workflow.sizes.values()) == declared["sumOfFileSizesInBytes"]
    assert {task.kind for task in workflow.tasks} >= {"mProject", "mAdd", "mViewer"}


@pytest.mark.parametrize(
    ("category", "program", "name", "kind"),
    [
        ("fft", "/bin/x", "t", "fft"),
        ("", "/opt/bin/mProject", "t", "mProject"),
        ("", "", "mProject_ID0000012", "mProject"),
        ("", "", "12", "12"),
        ("", "cat a \\\n b > c", "PROCESS.CAT_12", "PROCESS.CAT"),
        ("", "-", "PROCESS.NONE_1", "PROCESS.NONE"),
    ],
)
def test_tasks_of_a_kind_are_known_by_category_program_or_name(
    category: str, program: str, name: str, kind: str
) -> None:
    document = diamond()
    document["workflow"]["specification"]["tasks"][1]["name"] = name
    run = document["workflow"]["execution"]["tasks"][0]
    run["category"] = category
    run["command"] = {"program": program} if program else {}
    assert read(encoded(document)).tasks[1].kind == kind


def test_a_file_written_two_steps_before_is_there() -> None:
    document = diamond()
    document["workflow"]["specification"]["tasks"][0]["inputFiles"].append("s")
    workflow = read(encoded(document))
    assert workflow.tasks[0].made_before == {"a", "b", "s"}
    assert workflow.notes == []


def test_a_file_of_a_task_that_is_not_waited_for_is_told() -> None:
    document = diamond()
    document["workflow"]["specification"]["tasks"][2]["inputFiles"].append("a")
    workflow = read(encoded(document))
    assert workflow.tasks[2].made_before == {"s"}
    (note,) = workflow.notes
    assert "'right_1' and 'a'" in note


def test_a_file_that_a_task_changes_in_place_is_its_own() -> None:
    document = diamond()
    document["workflow"]["specification"]["tasks"][3]["outputFiles"].append("in")
    workflow = read(encoded(document))
    assert workflow.tasks[3].made_before == set()
    assert workflow.tasks[0].made_before == {"a", "b", "in"}
    assert workflow.notes == []


def _task(document: dict[str, Any], n: int) -> dict[str, Any]:
    found: dict[str, Any] = document["workflow"]["specification"]["tasks"][n]
    return found


def _run(document: dict[str, Any], n: int) -> dict[str, Any]:
    found: dict[str, Any] = document["workflow"]["execution"]["tasks"][n]
    return found


Spoil = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda d: d.pop("name"), "$: object missing required field name"),
        (lambda d: d.pop("schemaVersion"), "$: object missing required field schemaVersion"),
        (lambda d: d.update(schemaVersion="1.3"), "$.schemaVersion: WfFormat 1.3 is not known"),
        (lambda d: d.update(schemaVersion=1.5), "$.schemaVersion: expected str, got float"),
        (lambda d: d["workflow"].pop("specification"), "$.workflow: object missing required"),
        (
            lambda d: d["workflow"]["specification"].update(tasks=[]),
            f"{TASKS}: expected array of length >= 1",
        ),
        (
            lambda d: _task(d, 2).pop("parents"),
            f"{TASKS}[2]: object missing required field parents",
        ),
        (lambda d: _task(d, 2).update(id=""), f"{TASKS}[2].id: expected str of length >= 1"),
        (lambda d: _task(d, 2).update(id="left_1"), f"{TASKS}[2]: the id 'left_1' is that of"),
        (
            lambda d: _task(d, 0)["parents"].append("lefd_1"),
            f"{TASKS}[0].parents[2]: there is no task 'lefd_1'. Did you mean 'left_1'?",
        ),
        (
            lambda d: _task(d, 3)["children"].append(""),
            f"{TASKS}[3].children[1]: there is no task ''",
        ),
        (
            lambda d: _task(d, 0)["inputFiles"].append("x"),
            f"{TASKS}[0].inputFiles[3]: file 'x' is not declared",
        ),
        (
            lambda d: _task(d, 0)["outputFiles"].append(3),
            f"{TASKS}[0].outputFiles[1]: expected str",
        ),
        (
            lambda d: d["workflow"]["specification"]["files"].append({"id": "s", "sizeInBytes": 9}),
            "$.workflow.specification.files[5]: file 's' is declared twice, with 10 and 9 bytes",
        ),
        (
            lambda d: d["workflow"]["specification"]["files"][1].update(sizeInBytes=-1),
            "$.workflow.specification.files[1].sizeInBytes: expected int >= 0",
        ),
        (
            lambda d: _run(d, 1).update(id="x"),
            f"{RUNS}[1].id: no task is specified with the id 'x'",
        ),
        (
            lambda d: _run(d, 1).update(id="left_1"),
            f"{RUNS}[1].id: task 'left_1' is there a second",
        ),
        (lambda d: _run(d, 1).update(coreCount=0), f"{RUNS}[1].coreCount: expected float >= 1"),
        (lambda d: _run(d, 1).update(runtimeInSeconds=-1), f"{RUNS}[1].runtimeInSeconds: expected"),
        (lambda d: _run(d, 1).pop("runtimeInSeconds"), f"{RUNS}[1]: object missing required field"),
        (lambda d: _run(d, 0)["command"].update(arguments="-n"), f"{RUNS}[0].command.arguments: "),
    ],
)
def test_what_is_wrong_is_told_with_its_path(spoil: Spoil, told: str) -> None:
    document = diamond()
    spoil(document)
    with pytest.raises(InvalidInput) as raised:
        read(encoded(document))
    assert str(raised.value).startswith(told)


def test_a_name_that_several_old_tasks_have_means_all() -> None:
    document = old_diamond()
    split, left, right, join = document["workflow"]["tasks"]
    left["name"] = right["name"] = "side"
    left["command"] = right["command"] = "cat s > a\\nrm s"
    split["children"] = ["side"]
    left["parents"] = right["parents"] = []
    join["parents"] = ["side"]
    workflow = read(encoded(document))
    assert [task.parents for task in workflow.tasks] == [[], [0], [0], [1, 2]]
    assert workflow.tasks[1].kind == "side"


@pytest.mark.parametrize(
    ("parent", "told"),
    [
        ("join_1", "tasks wait for each other: .*join_1 → "),
        ("split_1", r"tasks\[3\].parents\[0\]: task 'split_1' waits for itself"),
    ],
)
def test_a_circle_is_shown(parent: str, told: str) -> None:
    document = diamond()
    _task(document, 3)["parents"].append(parent)
    with pytest.raises(CyclicDependency, match=told):
        read(encoded(document))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "malformed JSON"),
        (b'{"schemaVersion": "1.5",\n "name": }', "line 2 column 10: malformed JSON"),
        (b'{"schemaVersion": "1.5", "name": "\xff"}', "not UTF-8"),
        (b"[1]", r"\$: expected object, got array"),
    ],
)
def test_what_is_no_wfformat_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        read(content)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_document_is_read_or_refused(data: st.DataObject) -> None:
    """Whatever stands in the place of a value, it is an error of ours or a workflow."""
    document: Any = data.draw(st.sampled_from([diamond, old_diamond]))()
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 9)) == 0:
            break
        place = inner
    strange = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([])
    place[key] = data.draw(strange)
    with suppress(BalsamError):
        assert read(encoded(document)).tasks
