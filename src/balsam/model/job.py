"""A job: one run of an app with its arguments, resources and state."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from balsam.errors import InvalidInput
from balsam.model import records
from balsam.model.affinity import check_affinity
from balsam.model.resources import Request
from balsam.model.retry import Rule
from balsam.model.states import State
from balsam.model.warning import parse_warning

#: Longest name in bytes: the directory name (name, '_', 8 digits) must fit 255.
LONGEST_NAME = 200


class Job(msgspec.Struct, kw_only=True):
    """The unit of work. Times are seconds since the epoch, UTC.

    `id`, `job_id`, `workdir`, `state` and what follows `created_at` are Balsam's; the
    rest is the user's to set.
    """

    id: int | None = None
    job_id: str = ""  #: UUID; its first 8 digits are in the directory's name
    name: str = ""
    workflow: str = ""
    application: str = ""  #: the app's name
    description: str = ""
    args: str = ""
    parameters: dict[str, Any] = {}
    environ: dict[str, str] = {}
    tags: dict[str, str] = {}
    data: Any = {}
    payload: str = ""  #: the arguments of a Python function (see model/payload.py)
    priority: int = 0  #: higher first
    # resources (see model/resources.py)
    num_nodes: int = 1
    ranks_per_node: int = 1
    threads_per_rank: int = 1
    threads_per_core: int = 1
    cores_per_rank: int = 0
    gpus_per_rank: float = 0.0
    memory_mib: int = 0
    node_packing_count: int = 1
    cpu_affinity: str = ""
    mpi_flags: str = ""
    wall_time_minutes: float = 0.0  #: estimate; 0: not known
    signal: str = ""  #: warning before the launcher's time ends, ``USR1@120``; '': the app's
    # files
    user_workdir: str = ""  #: instead of the job's own directory
    input_files: str = ""  #: globs, searched in the parents' directories
    stage_in_url: str = ""
    stage_out_url: str = ""
    stage_out_files: str = ""
    # what happens after a run that did not end well
    post_error_handler: bool = False
    post_timeout_handler: bool = False
    auto_timeout_retry: bool = True
    max_retries: int = 0
    retry: list[Rule] = []  #: rules for runs that fail, tried before the app's
    # dependencies: ids of parents that must finish, fail, or just end
    parents: list[int] = []
    parents_failed: list[int] = []
    parents_any: list[int] = []
    # Balsam's own
    state: State = State.CREATED
    owner: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0  #: when the state last changed
    pending_parents: int = 0
    attempt: int = 0  #: executions so far
    retries: int = 0  #: of these, charged against max_retries
    timeouts: int = 0  #: of these, ended because the launcher's time was over
    crashes: int = 0  #: of these, lost with their worker or launcher
    retry_at: float | None = None  #: not run before this time
    exit_code: int | None = None  #: of the last attempt; minus the signal's number
    launcher_id: int | None = None  #: who holds the lease
    batch_job_id: int | None = None
    workdir: str = ""

    @property
    def request(self) -> Request:
        """The resources as one comparable value."""
        return Request(
            num_nodes=self.num_nodes,
            ranks_per_node=self.ranks_per_node,
            threads_per_rank=self.threads_per_rank,
            threads_per_core=self.threads_per_core,
            cores_per_rank=self.cores_per_rank,
            gpus_per_rank=self.gpus_per_rank,
            memory_mib=self.memory_mib,
            node_packing_count=self.node_packing_count,
            cpu_affinity=self.cpu_affinity,
        )


def needs_transfer(job: Job) -> bool:
    """Tell whether a job's next step is to move files from or to URLs."""
    if job.state == State.READY:
        return bool(job.stage_in_url)
    out = job.stage_out_url and job.stage_out_files
    return job.state == State.POSTPROCESSED and bool(out)


FIELDS: dict[str, msgspec.structs.FieldInfo] = {f.name: f for f in records.fields(Job)}
#: Fields that are computed or kept in other tables: no column of their own.
DERIVED = ("job_id", "workdir", "parents", "parents_failed", "parents_any")
#: Fields that users may set and change.
EDITABLE = tuple(
    name
    for name in FIELDS
    if name
    not in (
        "id",
        "job_id",
        "state",
        "owner",
        "created_at",
        "updated_at",
        "pending_parents",
        "attempt",
        "retries",
        "timeouts",
        "crashes",
        "retry_at",
        "exit_code",
        "launcher_id",
        "batch_job_id",
        "workdir",
    )
)


def directory_name(name: str, short_id: str) -> str:
    """Return the last part of a job's directory: ``{name}_{8 hex}``."""
    return f"{name.strip().replace(' ', '_')}_{short_id}"


def check_name(name: str, field: str = "name") -> None:
    """Raise `InvalidInput` unless *name* can name a directory and an output file."""
    if not name.strip():
        raise InvalidInput(f"{field} is empty; every job needs one")
    if "/" in name:
        raise InvalidInput(f"{field} {name!r} contains '/'; it names a directory: leave it out")
    if name.isascii() and name.isprintable() and len(name) <= LONGEST_NAME:
        if name.strip() in (".", ".."):
            raise InvalidInput(f"{field} {name!r} is not a name for a directory")
        return
    for char in name:
        if not char.isprintable():
            raise InvalidInput(f"{field} {name!r} contains {char!r}; use printable characters")
        if ord(char) > 0xFFFF:
            raise InvalidInput(
                f"{field} {name!r} contains {char!r}, which is four bytes long in UTF-8 and"
                " breaks on some file systems; use other characters"
            )
    if len(name.encode()) > LONGEST_NAME:
        raise InvalidInput(f"{field} {name[:20]!r}… is longer than {LONGEST_NAME} bytes")


def check_workflow(workflow: str) -> None:
    """Raise `InvalidInput` unless *workflow* can be a relative directory path."""
    if workflow.isalnum() and workflow.isascii() and len(workflow) <= LONGEST_NAME:
        return
    parts = workflow.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidInput(
            f"workflow {workflow!r} is not a relative path; use a name, or names joined by '/'"
        )
    for part in parts:
        check_name(part, "workflow")


def check_job(job: Job) -> None:
    """Raise `InvalidInput` when *job* could never be stored or run."""
    check_name(job.name)
    check_workflow(job.workflow)
    job.request.check()
    check_affinity(job.cpu_affinity)
    if not 0 <= job.wall_time_minutes < math.inf:
        raise InvalidInput(f"wall_time_minutes is {job.wall_time_minutes}; it must be 0 or more")
    if not 0 <= job.max_retries < 2**31:
        raise InvalidInput(f"max_retries is {job.max_retries}; it must be 0 or more, in 32 bits")
    if not -(2**31) <= job.priority < 2**31:
        raise InvalidInput(f"priority is {job.priority}; it must fit 32 bits")
    parse_warning(job.signal)
