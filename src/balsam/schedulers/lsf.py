"""LSF: IBM Spectrum LSF 10.1 from Fix Pack 2 on, also with jsrun (Summit's kind).

Sources: the command reference of 10.1 (bsub, bjobs, bhist, bkill, bqueues, bhosts, bmgroup,
bslots), the user guide of Summit (OLCF), output that buildtest, toil, ert and ood_core quote in
their tests and threads. What is worth knowing:

- ``bsub`` reads directives only from a script on its standard input. Sites write checks and
  balances before ``Job <123> is submitted to queue <batch>.``
- ``bjobs`` knows what has ended for CLEAN_PERIOD (an hour by default), ``bhist`` longer. An id that
  it does not know is a line on standard error with exit code 255, or a record with ``ERROR``.
- Times have no seconds, and no year (unless the site sets LSB_DISPLAY_YEAR).
- A job that was killed has a reason that begins with ``TERM_``.

Tried on fake commands only.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from balsam.errors import SchedulerRefused
from balsam.model.batch_job import ENDED_STATES, BatchState
from balsam.schedulers.answers import failure, says, text_of, unreadable
from balsam.schedulers.documents import document, read, texts
from balsam.schedulers.lsf_history import read_history, read_moment, state_of_reason, told_code
from balsam.schedulers.lsf_queues import (
    has_groups,
    read_groups,
    read_hosts,
    read_queues,
    read_windows,
    read_windows_of_nodes,
)
from balsam.schedulers.scheduler import Answer, Queue, Run, Status, Submission, Window

AWAY = re.compile(
    r"lim is down|not responding|lsf is down|connection (refused|reset|timed out)"
    r"|communication time ?out|failed in (an lsf library call|sending)|mbatchd|please wait"
    r"|no route to host|host is unreachable|try (again )?later|temporarily unavailable",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"is not found|no (unfinished |matching )?job (is )?found", re.IGNORECASE)
_OVER = re.compile(r"already finished|no matching job|is not found|being terminated", re.IGNORECASE)

_STATES = {
    "PEND": BatchState.QUEUED,
    "WAIT": BatchState.QUEUED,
    "PROV": BatchState.QUEUED,  # its hosts are being started
    "PSUSP": BatchState.HELD,
    "RUN": BatchState.RUNNING,
    "USUSP": BatchState.RUNNING,  # suspended: it has begun, and goes on
    "SSUSP": BatchState.RUNNING,
    "ZOMBI": BatchState.ENDING,  # killed, and its host does not answer
    "DONE": BatchState.FINISHED,
    "EXIT": BatchState.FAILED,
}


class _Record(msgspec.Struct, rename="upper"):
    """What bjobs tells of a request; the names are those of its fields."""

    jobid: str
    stat: str = ""
    queue: str = ""
    job_name: str = ""
    exec_host: str = ""
    exit_code: str = ""
    exit_reason: str = ""
    pend_reason: str = ""
    start_time: str = ""
    finish_time: str = ""
    estimated_start_time: str = ""
    error: str = ""


class _Records(msgspec.Struct, rename="upper"):
    records: list[_Record]


_FIELDS = " ".join(name for name in _Record.__struct_fields__ if name != "error")


class Lsf:
    """LSF.

    Parameters
    ----------
    has_jsrun
        Whether nodes are asked for by ``-nnodes``; None: where there is a program `jsrun`.
    now
        The time, for dates without a year.
    """

    name = "lsf"

    def __init__(self, has_jsrun: bool | None = None, now: Callable[[], float] = time.time) -> None:
        self._has_jsrun = shutil.which("jsrun") is not None if has_jsrun is None else has_jsrun
        self._now = now

    def is_here(self, run: Run) -> bool:
        return says(run, ["bjobs", "-V"], r"\bLSF\b")

    # requests --------------------------------------------------------------------------------

    def directives(self, submission: Submission) -> list[str]:
        lines = [
            f"-J {submission.name}",
            f"-W {submission.minutes}",
            f"-o {_quoted(submission.output)}",
            f"-cwd {_quoted(submission.directory)}",
            *self._size(submission),
        ]
        if submission.gpus_per_node and not self._has_jsrun and "-gpu" not in submission.flags:
            lines.append(f"-gpu num={submission.gpus_per_node}")
        lines += [f"-q {_quoted(submission.queue)}"] if submission.queue else []
        lines += [f"-P {_quoted(submission.project)}"] if submission.project else []
        lines += [" ".join(map(_quoted, submission.flags))] if submission.flags else []
        return [f"#BSUB {line}" for line in lines]

    def _size(self, submission: Submission) -> list[str]:
        if {"-n", "-nnodes"} & set(submission.flags):  # given twice, neither counts
            return []
        nodes, cores = submission.num_nodes, submission.cores_per_node
        if self._has_jsrun:
            return [f"-nnodes {nodes}"]
        if cores:  # all slots of each host
            return [f"-n {nodes * cores}", f'-R "span[ptile={cores}]"']
        return [f"-n {nodes}", '-R "span[ptile=1]"', "-x"]

    def submit(self, run: Run, submission: Submission) -> str:
        try:
            # Paths in it may have bytes that are no text.
            script = Path(submission.script).read_text("utf-8", "surrogateescape")
        except OSError as error:
            raise SchedulerRefused(
                f"bsub: cannot read {submission.script}: {error.strerror}"
            ) from error
        answer = run(["bsub"], script)
        text = text_of(answer, AWAY)
        found = re.findall(r"^Job <(\d+)> is submitted to ", text, re.MULTILINE)
        if not found:
            raise unreadable(answer, text.strip(), "Job <…> is submitted to …")
        return str(found[-1])

    def find(self, run: Run, name: str) -> str | None:
        _, records = self._bjobs(run, "jobid job_name", "-a", "-J", name)
        found = [each.jobid for each in records if each.job_name == name]
        return max(found, key=lambda each: (len(each), each)) if found else None

    def status(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        if not ids:
            return {}
        answer, records = self._bjobs(run, _FIELDS, *ids)
        now = self._now()
        ours = [each for each in records if each.jobid in ids]
        return {each.jobid: _status(answer, each, now) for each in ours}

    def history(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        found = self.status(run, ids)
        missing = [each for each in ids if each not in found]
        if missing:
            # -n 2: the last two files of events; all of them (0) are a load for the system.
            answer = run(["bhist", "-l", "-n", "2", *missing])
            if not (answer.code and _UNKNOWN.search(answer.err)):
                text_of(answer, AWAY)
            past = read_history(answer, self._now())
            found |= {each: status for each, status in past.items() if each in missing}
        over = ENDED_STATES | {BatchState.UNKNOWN}
        return {each: status for each, status in found.items() if status.state in over}

    def cancel(self, run: Run, ids: Sequence[str]) -> None:
        if not ids:
            return
        answer = run(["bkill", *ids])
        if answer.code and not all(map(_OVER.search, answer.err.strip().splitlines())):
            raise failure(answer, AWAY)

    # queues ----------------------------------------------------------------------------------

    def queues(self, run: Run) -> list[Queue]:
        return [queue for queue, _ in self._queues(run)]

    def windows(self, run: Run) -> list[Window]:
        found = self._queues(run)
        if self._has_jsrun:  # batch and launch nodes have slots, too
            answer = run(["bslots", "-R", "select[CN]"])
            return read_windows_of_nodes(answer, text_of(answer, AWAY), found)
        answer = run(["bslots", "-l"])
        return read_windows(answer, text_of(answer, AWAY), found)

    # commands --------------------------------------------------------------------------------

    def _bjobs(self, run: Run, fields: str, *words: str) -> tuple[Answer, list[_Record]]:
        """Return the records about the requests that it knows."""
        answer = run(["bjobs", "-json", "-o", fields, *words])
        is_known = not (answer.code and _UNKNOWN.search(answer.err))
        if is_known:
            text_of(answer, AWAY)
        elif "{" not in answer.out:
            return answer, []
        found = read(answer, texts(document(answer, answer.out)), _Records)
        return answer, [each for each in found.records if not each.error]

    def _queues(self, run: Run) -> list[tuple[Queue, frozenset[str]]]:
        """Return the queues, each with the names of its hosts."""
        queues = run(["bqueues", "-l"])
        text = text_of(queues, AWAY)
        answer = run(["bhosts", "-json", "-o", "host_name status max"])
        hosts = read_hosts(answer, texts(document(answer, text_of(answer, AWAY))))
        groups: Mapping[str, list[str]] = {}
        if has_groups(text):
            answer = run(["bmgroup", "-r", "-w"])
            groups = read_groups(answer, text_of(answer, AWAY))
        return read_queues(queues, text, hosts, groups)


def _quoted(word: str) -> str:
    """Return *word* as it stands in a directive, whose quotes are those of the shell."""
    if re.fullmatch(r"[\w.,:;=/@%+-]+", word):
        return word
    return f"'{word}'" if "'" not in word else f'"{word}"'


def _status(answer: Answer, record: _Record, now: float) -> Status:
    if not record.stat:
        raise unreadable(answer, f"JOBID {record.jobid}", "its STAT")
    state = _STATES.get(record.stat, BatchState.UNKNOWN)
    reason = ""
    if state in (BatchState.QUEUED, BatchState.HELD):
        reason = record.pend_reason
    elif record.stat == "EXIT":
        reason = record.exit_reason
        state = state_of_reason(reason)
    is_over = state in ENDED_STATES
    started = read_moment(answer, record.start_time, now)
    estimate = read_moment(answer, record.estimated_start_time, now)
    return Status(
        scheduler_id=record.jobid,
        state=state,
        word=record.stat,
        reason=reason.strip(" ;-"),
        queue=record.queue,
        nodes=_hosts_of(record.exec_host),
        exit_code=_exit_code(answer, record.exit_code, state) if is_over else None,
        starts_at=estimate if started is None else None,
        started_at=started,
        # For what runs it is the time at which it will have reached its limit.
        ended_at=read_moment(answer, record.finish_time, now) if is_over else None,
    )


def _exit_code(answer: Answer, text: str, state: BatchState) -> int | None:
    if text in ("", "-"):
        return 0 if state is BatchState.FINISHED else None
    if not text.isdecimal():
        raise unreadable(answer, text, "an exit code")
    return told_code(int(text), state)


def _hosts_of(text: str) -> str:
    """Return the hosts of ``16*node1:16*node2``, each once."""
    names = [item.rpartition("*")[2] for item in text.strip("-").split(":")]
    return ",".join(dict.fromkeys(filter(None, names)))
