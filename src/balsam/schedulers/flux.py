"""Flux: a system instance, or any other that FLUX_URI names.

Sources: flux-batch(1), flux-jobs(1), flux-queue(1), flux-resource(1), flux-cancel(1) of flux-core
0.50 to 0.89; RFC 19 (ids), RFC 20 (resources), RFC 21 (states), RFC 36 (directives). Output of
flux-core 0.89.0 that ood_core keeps for its tests (spec/fixtures/output/flux):

- ``flux jobs --json`` writes ``{"jobs": […]}``, but the job alone when one id is given. Empty
  fields are left out. Ids that it does not know go to standard error ("JobID 999 unknown"), since
  0.80 with exit code 1; the others are still written.
- Ids are written as ``ƒiFkbMhFM``, and with an ASCII locale as ``fiFkbMhFM``.
- Ended jobs are known until somebody purges them, so there is no other history.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import msgspec

from balsam.errors import NoScheduler
from balsam.model.batch_job import ENDED_STATES, BatchState
from balsam.schedulers.answers import failure, text_of, unreadable
from balsam.schedulers.documents import document, read
from balsam.schedulers.scheduler import Answer, Queue, Run, Status, Submission, Window

AWAY = re.compile(
    r"unable to connect to flux|connection (refused|reset|timed out)|broken pipe"
    r"|no service matching|no route to host|host is unreachable|lost connection|timed out"
    r"|resource temporarily unavailable|function not implemented",
    re.IGNORECASE,
)
#: There is no broker on this machine: Flux is installed, but not its batch system.
_NOT_HERE = re.compile(r"was not found|no such file|ENOENT", re.IGNORECASE)
_UNKNOWN = re.compile(r"unknown|inactive|not found", re.IGNORECASE)
_STATES = {
    "NEW": BatchState.QUEUED,
    "DEPEND": BatchState.QUEUED,
    "PRIORITY": BatchState.QUEUED,
    "SCHED": BatchState.QUEUED,
    "RUN": BatchState.RUNNING,
    "CLEANUP": BatchState.ENDING,
    "COMPLETED": BatchState.FINISHED,
    "FAILED": BatchState.FAILED,
    "CANCELED": BatchState.CANCELLED,
    "TIMEOUT": BatchState.TIMEOUT,
}
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
#: What `flux queue list` is asked for; the last word shows that a line is whole.
_QUEUE = (
    "queue={queuem}|{submission}|{scheduling}|{limits.timelimit}"
    "|{limits.min.nnodes}|{limits.max.nnodes}|end"
)
#: The return code of a job that was cancelled before it started.
_NEVER_STARTED = -128


class _Exception(msgspec.Struct):
    occurred: bool = False
    type: str = ""
    note: str = ""


class _Schedule(msgspec.Struct):
    t_estimate: float | None = None
    reason_pending: str = ""


class _Annotations(msgspec.Struct):
    sched: _Schedule = msgspec.field(default_factory=_Schedule)


class _Job(msgspec.Struct):
    """A job, as far as it is read."""

    id: int
    state: str
    jobid: str
    name: str = ""
    queue: str = ""
    result: str = ""
    nodelist: str = ""
    urgency: int | None = None
    priority: int | None = None
    dependencies: list[str] = []
    returncode: int | None = None
    t_submit: float = 0.0
    t_run: float | None = None
    t_inactive: float | None = None
    annotations: _Annotations = msgspec.field(default_factory=_Annotations)
    exception: _Exception = msgspec.field(default_factory=_Exception)


class _Children(msgspec.Struct):
    core: str = ""
    gpu: str = ""


class _Group(msgspec.Struct):
    rank: str
    children: _Children = msgspec.field(default_factory=_Children)


class _Execution(msgspec.Struct):
    R_lite: list[_Group]


class _Resources(msgspec.Struct):
    """A resource set of RFC 20, as far as it is read."""

    execution: _Execution


class Flux:
    """flux-core 0.50 and later."""

    name = "flux"

    def is_here(self, run: Run) -> bool:
        try:
            answer = run(["flux", "getattr", "size"])
        except NoScheduler:
            return False
        said = f"{answer.out}\n{answer.err}"
        if answer.code == 0:
            return re.search(r"^\d+$", answer.out, re.MULTILINE) is not None
        return AWAY.search(said) is not None and _NOT_HERE.search(said) is None

    # requests --------------------------------------------------------------------------------

    def directives(self, submission: Submission) -> list[str]:
        words = [
            f"--job-name={submission.name}",
            f"--nodes={submission.num_nodes}",
            "--exclusive",
            f"--time-limit={submission.minutes}m",
            f"--output={submission.output}",
            f"--cwd={submission.directory}",
        ]
        words += [f"--queue={submission.queue}"] if submission.queue else []
        words += [f"--bank={submission.project}"] if submission.project else []
        lines = [shlex.quote(word) for word in words]
        # No option for GPUs: whole nodes have theirs.
        if submission.flags:
            lines.append(shlex.join(submission.flags))
        return [f"# flux: {line}" for line in lines]

    def submit(self, run: Run, submission: Submission) -> str:
        answer = run(["flux", "batch", submission.script])
        words = [line.strip() for line in text_of(answer, AWAY).splitlines()]
        found = [word for word in words if re.fullmatch(rf"[ƒf][{_BASE58}]+", word)]
        if not found:
            raise unreadable(answer, answer.out.strip(), "the id of the request")
        return found[-1]

    def find(self, run: Run, name: str) -> str | None:
        answer = run(["flux", "jobs", "-a", "--json", f"--name={name}"])
        jobs = _jobs(answer, text_of(answer, AWAY))
        found = [job for job in jobs if job.name == name]
        # As `submit` returns it: `command` has set a locale that is ASCII.
        return f"f{max(found, key=lambda job: job.t_submit).jobid[1:]}" if found else None

    def status(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        if not ids:
            return {}
        answer = run(["flux", "jobs", "--json", *ids])
        complaints = answer.err.strip().splitlines()
        if answer.code and not (complaints and all(map(_UNKNOWN.search, complaints))):
            raise failure(answer, AWAY)
        if complaints and not answer.out.strip() and all(map(_UNKNOWN.search, complaints)):
            return {}
        wanted = {_number(each): each for each in ids}
        jobs = _jobs(answer, answer.out)
        ours = [(wanted[job.id], job) for job in jobs if job.id in wanted]
        return {each: _status(answer, each, job) for each, job in ours}

    def history(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        found = self.status(run, ids)
        over = ENDED_STATES | {BatchState.UNKNOWN}
        return {each: status for each, status in found.items() if status.state in over}

    def cancel(self, run: Run, ids: Sequence[str]) -> None:
        if not ids:
            return
        answer = run(["flux", "cancel", *ids])
        if answer.code and not all(map(_UNKNOWN.search, answer.err.strip().splitlines())):
            raise failure(answer, AWAY)

    # queues ----------------------------------------------------------------------------------

    def queues(self, run: Run) -> list[Queue]:
        return [
            _queue(answer, fields, _nodes(run, fields[0], "up")) for answer, fields in _list(run)
        ]

    def windows(self, run: Run) -> list[Window]:
        windows = []
        for _, fields in _list(run):
            free, most = _nodes(run, fields[0], "free"), _cores(_nodes(run, fields[0], "up"))
            # A node of which a part is taken is not free for a whole-node request.
            count = sum(cores >= most > 0 for cores, _ in free)
            if count:
                windows.append(Window(queue=fields[0].rstrip("*"), num_nodes=count))
        return windows


def _jobs(answer: Answer, text: str) -> list[_Job]:
    found = document(answer, text)
    return read(answer, found.get("jobs", [found]), list[_Job])


def _number(text: str) -> int | None:
    """Return the number of an id in decimal, or in base 58 with its prefix; None: it is none."""
    if text.isdecimal():
        return int(text)
    number = 0
    for character in text[1:]:
        if character not in _BASE58:
            return None
        number = number * len(_BASE58) + _BASE58.index(character)
    return number


def _status(answer: Answer, scheduler_id: str, job: _Job) -> Status:
    word = job.state
    if word == "INACTIVE":
        if not job.result:
            raise unreadable(answer, f"state {word}", "a result")
        word = job.result
    state = _STATES.get(word, BatchState.UNKNOWN)
    if state is BatchState.QUEUED and job.urgency == 0:
        state = BatchState.HELD
    is_over = state in ENDED_STATES
    return Status(
        scheduler_id=scheduler_id,
        state=state,
        word=word,
        reason=_reason(job, state),
        queue=job.queue,
        # A job that waits for its nodes has none, but some versions a '-'.
        nodes=job.nodelist.strip("-"),
        exit_code=job.returncode if is_over and job.returncode != _NEVER_STARTED else None,
        starts_at=job.annotations.sched.t_estimate if state is BatchState.QUEUED else None,
        started_at=job.t_run,
        ended_at=job.t_inactive if is_over else None,
    )


def _reason(job: _Job, state: BatchState) -> str:
    if job.exception.occurred:
        return ": ".join(filter(None, (job.exception.type, job.exception.note)))
    if state is BatchState.HELD:
        return "held: its urgency is 0"
    if state is not BatchState.QUEUED:
        return ""
    if job.dependencies:
        return f"waits for {', '.join(job.dependencies)}"
    if job.priority == 0:
        return "held: its priority is 0"
    return job.annotations.sched.reason_pending or "waits for nodes"


def _list(run: Run) -> list[tuple[Answer, list[str]]]:
    """Return the fields of each queue, with the answer that they stand in."""
    answer = run(["flux", "queue", "list", "--no-header", f"--format={_QUEUE}"])
    lines = [line for line in text_of(answer, AWAY).splitlines() if line.startswith("queue=")]
    if not lines:
        raise unreadable(answer, answer.out.strip(), "queue=…")
    found = []
    for line in lines:
        fields = line.removeprefix("queue=").split("|")
        if len(fields) != _QUEUE.count("|") + 1 or fields[-1] != "end":
            raise unreadable(answer, line, f"a line as {_QUEUE}")
        found.append((answer, fields[:-1]))
    return found


def _queue(answer: Answer, fields: Sequence[str], nodes: Sequence[tuple[int, int]]) -> Queue:
    name, submission, scheduling, limit, fewest, most = fields
    closed = [
        text
        for text, is_so in (
            ("it takes no requests", submission != "enabled"),
            ("it starts none", scheduling != "started"),
        )
        if is_so
    ]
    seconds = _amount(answer, limit)
    return Queue(
        name=name.rstrip("*"),
        is_default=name.endswith("*") or not name,  # without queues there is one of no name
        is_open=not closed,
        comment=" and ".join(closed),
        min_nodes=int(_amount(answer, fewest) or 0) or None,
        max_nodes=_count(_amount(answer, most)),
        max_minutes=None if seconds is None else seconds / 60,
        nodes=len(nodes),
        cores_per_node=_cores(nodes),
        gpus_per_node=max((gpus for _, gpus in nodes), default=0),
    )


def _amount(answer: Answer, text: str) -> float | None:
    """Read a limit; 'inf' is none."""
    if text.lower() in ("inf", "infinity"):
        return None
    if not re.fullmatch(r"\d+(\.\d*)?", text):
        raise unreadable(answer, text, "a number or inf")
    return float(text)


def _count(amount: float | None) -> int | None:
    return None if amount is None else int(amount)


def _cores(nodes: Sequence[tuple[int, int]]) -> int:
    return max((cores for cores, _ in nodes), default=0)


def _nodes(run: Run, queue: str, state: str) -> list[tuple[int, int]]:
    """Return cores and GPUs of each node of a queue, as far as they are in this state."""
    of = [f"--queue={queue.rstrip('*')}"] if queue else []
    answer = run(["flux", "resource", "R", f"--states={state}", *of])
    found = read(answer, document(answer, text_of(answer, AWAY)), _Resources)
    nodes = []
    for group in found.execution.R_lite:
        one = (_size(answer, group.children.core), _size(answer, group.children.gpu))
        nodes += [one] * _size(answer, group.rank)
    return nodes


def _size(answer: Answer, ids: str) -> int:
    """Return how many numbers a set has: ``0-3,7``."""
    if not re.fullmatch(r"(\d+(-\d+)?(,(?=\d)|$))*", ids):
        raise unreadable(answer, ids, "numbers such as 0-3,7")
    ranges = [each.partition("-") for each in ids.split(",") if each]
    return sum(int(high or low) - int(low) + 1 for low, _, high in ranges)
