"""The forms in which WfFormat 1.4, 1.5 and 1.6 write a workflow, checked as they are decoded.

From the JSON schemas of https://github.com/wfcommons/WfFormat: 1.4 (commit 51c170f), 1.5 (14e6962)
and, for 1.6, its list of changes: all that it adds is optional. What Balsam has no use for
(machines, energy, metrics, authors) is not looked at.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Word = Annotated[str, Meta(min_length=1)]
Amount = Annotated[float, Meta(ge=0)]
Size = Annotated[int, Meta(ge=0)]
Cores = Annotated[float, Meta(ge=1)]


class Header(Struct, rename="camel"):
    """What tells the version."""

    schema_version: str


class Command(Struct):
    program: Word = ""  #: in what WfCommons has of Nextflow, a whole script
    arguments: list[str] = []


class Execution(Struct, rename="camel"):
    """What is known of one task's run. Byte counts are of the resident set."""

    id: Word
    runtime_in_seconds: Amount
    command: Command = msgspec.field(default_factory=Command)
    core_count: Cores = 1.0
    memory_in_bytes: Amount = 0.0
    priority: float = 0.0
    category: str = ""  #: not in the schema, but written by WfCommons


class Task(Struct, rename="camel"):
    name: Word
    id: Word
    parents: list[str]
    children: list[str]
    input_files: list[Word] = []
    output_files: list[Word] = []


class File(Struct, rename="camel"):
    id: Word
    size_in_bytes: Size


class Specification(Struct):
    tasks: Annotated[list[Task], Meta(min_length=1)]
    files: list[File] | None = None


class Executions(Struct):
    tasks: list[Execution]


class Body(Struct):
    specification: Specification
    execution: Executions | None = None


class Document(Struct):
    """A file of version 1.5 or 1.6."""

    name: Word
    workflow: Body
    description: str = ""


class OldFile(Struct, rename="camel"):
    name: Word
    size_in_bytes: Size
    link: Annotated[str, Meta(pattern="^(input|output)$")]
    path: str = ""  #: not in the schema, but in many of WfCommons' instances


class OldTask(Struct, rename="camel"):
    name: Word
    id: str = ""
    category: str = ""
    #: Text, against the schema, in what WfCommons has of Nextflow.
    command: Command | str = msgspec.field(default_factory=Command)
    parents: list[Word] = []
    children: list[Word] = []
    files: list[OldFile] = []
    runtime_in_seconds: Amount = 0.0
    cores: Cores = 1.0
    memory_in_bytes: Amount = 0.0
    priority: float = 0.0


class OldBody(Struct):
    tasks: Annotated[list[OldTask], Meta(min_length=1)]


class OldDocument(Struct):
    """A file of version 1.4."""

    name: Word
    workflow: OldBody
    description: str = ""
