"""A workflow as Balsam understands it, read from a WfFormat file of any version it knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from balsam.errors import CyclicDependency, InvalidInput, nearest
from balsam.model.graph import find_cycle
from balsam.wfformat import document

#: The versions of the schema that are read.
VERSIONS = ("1.4", "1.5", "1.6")
_NUMBER_AT_END = re.compile(r"[_.-]*(?:ID)?\d+$")
T = TypeVar("T")


class Task(msgspec.Struct, kw_only=True):
    """One task, with what is known of its run."""

    id: str
    place: str  #: where the file specifies it, as a JSON path
    run_place: str  #: where the file tells of its run
    kind: str  #: what tasks of one program share
    parents: list[int] = []  #: positions in `Workflow.tasks`, ascending
    inputs: list[str] = []  #: files that it reads, those it also writes included
    outputs: list[str] = []
    #: Those of `inputs` that a task before it writes: they are there when it starts.
    made_before: set[str] = set()
    seconds: float = 0.0
    cores: float = 1.0
    memory_bytes: float = 0.0
    priority: float = 0.0
    program: str = ""
    arguments: list[str] = []


class Workflow(msgspec.Struct, kw_only=True):
    """Tasks that wait for each other and hand on files."""

    name: str
    description: str = ""
    version: str
    tasks: list[Task]
    sizes: dict[str, int]  #: bytes of each file that a task reads or writes
    notes: list[str] = []  #: what the user should know, a line each

    @property
    def given_files(self) -> list[str]:
        """The files that are read and that no task writes: what the workflow starts from."""
        written = {name for task in self.tasks for name in task.outputs}
        read = dict.fromkeys(name for task in self.tasks for name in task.inputs)
        return [name for name in read if name not in written]


def read(content: bytes) -> Workflow:
    """Return the workflow of a WfFormat file.

    Raises
    ------
    InvalidInput
        It is not WfFormat of a version in `VERSIONS`, or contradicts itself; the message has the
        JSON path of what is wrong.
    CyclicDependency
        Tasks wait for each other in a circle, which the message shows.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    version = _decode(content, document.Header).schema_version
    if version not in VERSIONS:
        raise InvalidInput(
            f"$.schemaVersion: WfFormat {version} is not known; {', '.join(VERSIONS)} are."
            " WfFormat's tools/wfcommons-migrate-instance.py makes older files new"
        )
    if version == "1.4":
        workflow = _from_old(_decode(content, document.OldDocument))
    else:
        workflow = _from_new(_decode(content, document.Document), version)
    levels = _levels(workflow.tasks)
    _trace_files(workflow, levels)
    return workflow


def _decode(content: bytes, form: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=form)
    except msgspec.ValidationError as error:
        told, _, path = str(error).replace("`", "").partition(" - at ")
        raise InvalidInput(f"{path or '$'}: {told[:1].lower()}{told[1:]}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(_where_malformed(content, error)) from error


def _where_malformed(content: bytes, error: Exception) -> str:
    try:
        json.loads(content)
    except json.JSONDecodeError as found:
        return f"line {found.lineno} column {found.colno}: malformed JSON: {found.msg}"
    except UnicodeDecodeError as found:
        return f"not UTF-8 at byte {found.start + 1}"
    return f"malformed JSON: {error}"


def _from_new(found: document.Document, version: str) -> Workflow:
    specification = found.workflow.specification
    path = "$.workflow.specification"
    names = [task.id for task in specification.tasks]
    positions = _positions(names, f"{path}.tasks", "id")
    runs = _runs(found.workflow.execution, positions)
    sizes = _declared_sizes(specification.files or [], f"{path}.files")
    tasks = []
    for n, spec in enumerate(specification.tasks):
        place = f"{path}.tasks[{n}]"
        if specification.files is not None:
            _refuse_undeclared(spec.input_files, sizes, f"{place}.inputFiles")
            _refuse_undeclared(spec.output_files, sizes, f"{place}.outputFiles")
        number, run = runs.get(n, (None, document.Execution(id=spec.id, runtime_in_seconds=0.0)))
        tasks.append(
            Task(
                id=spec.id,
                place=place,
                run_place=place if number is None else f"$.workflow.execution.tasks[{number}]",
                kind=_kind(run.category, run.command.program, spec.name),
                inputs=_once(spec.input_files),
                outputs=_once(spec.output_files),
                seconds=run.runtime_in_seconds,
                cores=run.core_count,
                memory_bytes=run.memory_in_bytes,
                priority=run.priority,
                program=run.command.program,
                arguments=run.command.arguments,
            )
        )
    ends = [(spec.parents, spec.children) for spec in specification.tasks]
    _link(tasks, ends, {name: [n] for name, n in positions.items()})
    return _workflow(found, version, tasks, sizes)


def _from_old(found: document.OldDocument) -> Workflow:
    path = "$.workflow.tasks"
    olds = found.workflow.tasks
    positions = _positions([_old_id(old) for old in olds], path, "name and id")
    sizes: dict[str, int] = {}
    tasks = []
    for n, (task_id, old) in enumerate(zip(positions, olds, strict=True)):
        command = old.command
        if isinstance(command, str):
            command = document.Command(program=command)
        files = [(file.link, f"{file.path}{file.name}", file.size_in_bytes) for file in old.files]
        for _, name, size in files:
            sizes.setdefault(name, size)
        tasks.append(
            Task(
                id=task_id,
                place=f"{path}[{n}]",
                run_place=f"{path}[{n}]",
                kind=_kind(old.category, command.program, old.name),
                inputs=_once(name for link, name, _ in files if link == "input"),
                outputs=_once(name for link, name, _ in files if link == "output"),
                seconds=old.runtime_in_seconds,
                cores=old.cores,
                memory_bytes=old.memory_in_bytes,
                priority=old.priority,
                program=command.program,
                arguments=command.arguments,
            )
        )
    _link(tasks, [(old.parents, old.children) for old in olds], _old_references(olds))
    _link_by_files(tasks)
    return _workflow(found, "1.4", tasks, sizes)


def _workflow(
    found: document.Document | document.OldDocument,
    version: str,
    tasks: list[Task],
    sizes: dict[str, int],
) -> Workflow:
    used = dict.fromkeys(name for task in tasks for name in (*task.inputs, *task.outputs))
    return Workflow(
        name=found.name,
        description=found.description,
        version=version,
        tasks=tasks,
        sizes={name: sizes.get(name, 0) for name in used},
    )


def _positions(ids: list[str], path: str, what: str) -> dict[str, int]:
    positions: dict[str, int] = {}
    for n, name in enumerate(ids):
        if positions.setdefault(name, n) != n:
            raise InvalidInput(
                f"{path}[{n}]: the {what} {name!r} is that of {path}[{positions[name]}] already"
            )
    return positions


def _runs(
    execution: document.Executions | None, positions: dict[str, int]
) -> dict[int, tuple[int, document.Execution]]:
    """Return what is known of the runs: position of the task → place in the list, run."""
    found: dict[int, tuple[int, document.Execution]] = {}
    for n, run in enumerate(execution.tasks if execution else []):
        path = f"$.workflow.execution.tasks[{n}].id"
        if run.id not in positions:
            known = nearest(run.id, list(positions))
            raise InvalidInput(f"{path}: no task is specified with the id {run.id!r}.{known}")
        if found.setdefault(positions[run.id], (n, run))[0] != n:
            raise InvalidInput(f"{path}: task {run.id!r} is there a second time")
    return found


def _declared_sizes(files: list[document.File], path: str) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for n, file in enumerate(files):
        if sizes.setdefault(file.id, file.size_in_bytes) != file.size_in_bytes:
            raise InvalidInput(
                f"{path}[{n}]: file {file.id!r} is declared twice, with"
                f" {sizes[file.id]} and {file.size_in_bytes} bytes"
            )
    return sizes


def _refuse_undeclared(names: list[str], sizes: dict[str, int], path: str) -> None:
    for n, name in enumerate(names):
        if name not in sizes:
            raise InvalidInput(
                f"{path}[{n}]: file {name!r} is not declared in $.workflow.specification.files"
            )


def _old_id(old: document.OldTask) -> str:
    return old.name if not old.id or old.id in old.name else f"{old.name}_{old.id}"


def _old_references(olds: list[document.OldTask]) -> dict[str, list[int]]:
    """Return whom a word means: until 1.4, tasks are referred to by id, or by name.

    A name that several tasks have means them all: in what WfCommons has of Nextflow, processes
    of which each has many tasks wait for each other.
    """
    meant: dict[str, list[int]] = {}
    for n, old in enumerate(olds):
        for word in {old.name, old.id, _old_id(old)} - {""}:
            meant.setdefault(word, []).append(n)
    return meant


def _link(
    tasks: list[Task], ends: list[tuple[list[str], list[str]]], meant: dict[str, list[int]]
) -> None:
    """Set the parents. A dependency may be told at either end, or at both."""
    edges: list[set[int]] = [set() for _ in tasks]
    for n, (parents, children) in enumerate(ends):
        for what, references in (("parents", parents), ("children", children)):
            for k, reference in enumerate(references):
                path = f"{tasks[n].place}.{what}[{k}]"
                for other in _others(n, reference, meant, path):
                    parent, child = (other, n) if what == "parents" else (n, other)
                    edges[child].add(parent)
    for task, found in zip(tasks, edges, strict=True):
        task.parents = sorted(found)


def _others(task: int, reference: str, meant: dict[str, list[int]], path: str) -> list[int]:
    found = meant.get(reference, [])
    if not found:
        raise InvalidInput(f"{path}: there is no task {reference!r}.{nearest(reference, [*meant])}")
    if found == [task]:
        raise CyclicDependency(f"{path}: task {reference!r} waits for itself")
    return [other for other in found if other != task]


def _link_by_files(tasks: list[Task]) -> None:
    """Where no task has parents, let each follow the writers of what it reads.

    Files of version 1.4 need not tell of dependencies; WfCommons' own tool that makes 1.5 of
    them takes the files for it, too.
    """
    if any(task.parents for task in tasks):
        return
    writers = _writers(tasks)
    for n, task in enumerate(tasks):
        task.parents = sorted({w for name in task.inputs for w in writers.get(name, []) if w != n})


def _writers(tasks: list[Task]) -> dict[str, list[int]]:
    writers: dict[str, list[int]] = {}
    for n, task in enumerate(tasks):
        for name in task.outputs:
            writers.setdefault(name, []).append(n)
    return writers


def _levels(tasks: list[Task]) -> list[int]:
    """Return how many tasks at most are before each. Raises `CyclicDependency`."""
    children: list[list[int]] = [[] for _ in tasks]
    waiting = [len(task.parents) for task in tasks]
    for n, task in enumerate(tasks):
        for parent in task.parents:
            children[parent].append(n)
    levels = [0] * len(tasks)
    free = [n for n, count in enumerate(waiting) if not count]
    for n in free:  # grows as it goes
        for child in children[n]:
            levels[child] = max(levels[child], levels[n] + 1)
            waiting[child] -= 1
            if not waiting[child]:
                free.append(child)
    if len(free) < len(tasks):
        cycle = find_cycle((parent, n) for n, task in enumerate(tasks) for parent in task.parents)
        circle = " → ".join(tasks[n].id for n in cycle)
        raise CyclicDependency(f"{tasks[cycle[0]].place}: tasks wait for each other: {circle}")
    return levels


def _trace_files(workflow: Workflow, levels: list[int]) -> None:
    """Find out which inputs are written by tasks before, and note those that come from elsewhere.

    A writer that is no parent is looked for among all tasks before, no higher than its level.
    """
    tasks = workflow.tasks
    writers = _writers(tasks)
    unordered = ""
    count = 0
    for n, task in enumerate(tasks):
        parents = set(task.parents)
        for name in task.inputs:
            before = [w for w in writers.get(name, ()) if levels[w] < levels[n]]
            if any(w in parents or _is_before(tasks, levels, w, n) for w in before):
                task.made_before.add(name)
            elif name in writers and writers[name] != [n]:
                count += 1
                unordered = unordered or f"{task.id!r} and {name!r}"
    if count:
        workflow.notes.append(
            f"{count} times a task reads a file of a task that it does not wait for"
            f" (first: {unordered})"
        )


def _is_before(tasks: list[Task], levels: list[int], first: int, last: int) -> bool:
    seen = {last}
    left = [last]
    while left:
        for parent in tasks[left.pop()].parents:
            if parent == first:
                return True
            if parent not in seen and levels[parent] > levels[first]:
                seen.add(parent)
                left.append(parent)
    return False


def _kind(category: str, program: str, name: str) -> str:
    """Return what tasks of one program share: its name, or the task's without its number."""
    if category:
        return category
    if re.search(r"\w", program) and len(program.split()) == 1:
        return program.rsplit("/", 1)[-1] or program
    return _NUMBER_AT_END.sub("", name) or name


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
