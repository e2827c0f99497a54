"""Cobalt, Argonne's batch system, as on Theta (Cray XC40) and clusters.

Sources: Cobalt's own clients (qsub.py, qstat.py, qdel.py, client_utils.py, Util.py) and its queue
manager (cqm.py) of 1.0; the pages of ALCF on Theta; what 0.x and Balsam 0.7, buildtest and
radical.saga read. What is worth knowing:

- ``#COBALT`` lines are taken only when they follow the first line one after another, and are split
  at blanks without quotes: paths are given on the command line, which wins over them. Blanks in
  the path of a script are taken out, but not in the directory where it starts.
- It forgets a job at its end. How it ended stands in its log (``--debuglog``), which is put beside
  its output; where the output is, the adapter remembers from `submit` and `status`.
- ``qstat`` with ids ends with 1 and says nothing when it knows none of them.
- ``nodelist`` tells for how long each idle node is free. Cores of nodes are not told.

Tried on fake commands only. Blue Gene's ``partlist`` is not read.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping, Sequence

from balsam.errors import SchedulerAway
from balsam.model.batch_job import BatchState
from balsam.schedulers.answers import failure, says, text_of, unreadable
from balsam.schedulers.cobalt_log import read_log, read_moment
from balsam.schedulers.cobalt_tables import (
    Node,
    read_nodes,
    read_queues,
    read_records,
    read_windows,
)
from balsam.schedulers.scheduler import Queue, Run, Status, Submission, Window

AWAY = re.compile(
    r"failed to connect to|component error: following exception|connection (refused|reset)"
    r"|timed out|no route to host|host is unreachable|service-location",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"not found|no such job|does not exist", re.IGNORECASE)
_HEADER = "JobID:JobName:State:Queue:Location:StartTime:OutputPath"

_STATES = {
    "queued": (BatchState.QUEUED, "waits for its turn"),
    "maxrun_hold": (BatchState.QUEUED, "as many run as one user can have in the queue"),
    "preempted": (BatchState.QUEUED, "preempted: waits for its turn again"),
    "hold": (BatchState.HELD, "held"),
    "user_hold": (BatchState.HELD, "held by its owner"),
    "admin_hold": (BatchState.HELD, "held by an administrator"),
    "dep_hold": (BatchState.HELD, "waits for other requests to end"),
    "dep_fail": (BatchState.HELD, "a request that it waited for has failed"),
    "starting": (BatchState.RUNNING, ""),  # it has its nodes
    "running": (BatchState.RUNNING, ""),
    "preempting": (BatchState.ENDING, "being preempted"),
    "killing": (BatchState.ENDING, "being killed"),
    "exiting": (BatchState.ENDING, ""),
}
_NO_NODES = ("None", "N/A", "-", "[]")


class Cobalt:
    """Cobalt 1.0."""

    name = "cobalt"

    def __init__(self) -> None:
        #: Where the output of each request is; its log is beside it.
        self._outputs: dict[str, str] = {}

    def is_here(self, run: Run) -> bool:
        return says(run, ["qstat", "--version"], r"(?i)\bcobalt\b")

    # requests --------------------------------------------------------------------------------

    def directives(self, submission: Submission) -> list[str]:
        lines = [
            f"-n {submission.num_nodes}",
            f"-t {submission.minutes}",
            f"--jobname {submission.name}",
        ]
        lines += [f"-q {submission.queue}"] if submission.queue else []
        lines += [f"-A {submission.project}"] if submission.project else []
        if submission.flags and not _has_blanks(submission.flags):
            lines.append(" ".join(submission.flags))
        return [f"#COBALT {line}" for line in lines]

    def submit(self, run: Run, submission: Submission) -> str:
        paths = ["--cwd", submission.directory, "-o", submission.output, "-e", submission.output]
        paths += ["--debuglog", _log_of(submission.output)]
        flags = submission.flags if _has_blanks(submission.flags) else ()
        script = submission.script
        if " " in script:
            script = os.path.relpath(script, submission.directory)
        answer = run(["qsub", "--mode", "script", *paths, *flags, script])
        words = [line.strip() for line in text_of(answer, AWAY).splitlines()]
        found = [word for word in words if re.fullmatch(r"\d+", word)]
        if not found:
            raise unreadable(answer, answer.out.strip(), "the id of the request")
        self._outputs[found[-1]] = submission.output
        return found[-1]

    def find(self, run: Run, name: str) -> str | None:
        answer = run(["qstat", "-u", getpass.getuser(), "--header", "JobID:JobName"])
        rows = [line.split() for line in text_of(answer, AWAY).splitlines()]
        if ["JobID", "JobName"] not in rows:
            raise unreadable(answer, answer.out.strip(), "the line JobID JobName")
        found = [int(row[0]) for row in rows if row[1:] == [name] and row[0].isdecimal()]
        return str(max(found)) if found else None

    def status(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        if not ids:
            return {}
        answer = run(["qstat", "-l", "--header", _HEADER, *ids])
        if answer.code and not answer.err.strip() and "JobID:" not in answer.out:
            return {}
        records = read_records(answer, text_of(answer, AWAY), _HEADER.split(":"))
        found = {record["JobID"]: record for record in records if record["JobID"] in ids}
        for each, record in found.items():
            self._outputs[each] = record["OutputPath"]
        return {each: _status(record) for each, record in found.items()}

    def history(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        live = self.status(run, ids)
        found = {}
        for each in ids:
            if each not in live and each in self._outputs:
                status = read_log(_log_of(self._outputs[each]), each)
                if status is not None:
                    found[each] = status
        return found

    def cancel(self, run: Run, ids: Sequence[str]) -> None:
        if not ids:
            return
        answer = run(["qdel", *ids])
        complaints = answer.err.strip().splitlines()
        if answer.code and not (complaints and all(map(_UNKNOWN.search, complaints))):
            raise failure(answer, AWAY)

    # queues ----------------------------------------------------------------------------------

    def queues(self, run: Run) -> list[Queue]:
        answer = run(["qstat", "-Q", "-l"])
        text = text_of(answer, AWAY)
        try:
            nodes = self._nodes(run)
        except SchedulerAway:  # clusters have no such command
            nodes = []
        return read_queues(answer, text, nodes)

    def windows(self, run: Run) -> list[Window]:
        return read_windows(self._nodes(run))

    def _nodes(self, run: Run) -> list[Node]:
        answer = run(["nodelist"])
        return read_nodes(answer, text_of(answer, AWAY))


def _log_of(output: str) -> str:
    return f"{output}.cobaltlog"


def _has_blanks(flags: Sequence[str]) -> bool:
    return any(re.search(r"\s", flag) for flag in flags)


def _status(record: Mapping[str, str]) -> Status:
    word = record["State"]
    state, reason = _STATES.get(word.replace(" ", "_"), (BatchState.UNKNOWN, ""))
    location = record["Location"]
    return Status(
        scheduler_id=record["JobID"],
        state=state,
        word=word,
        reason=reason,
        queue=record["Queue"],
        nodes="" if location in _NO_NODES else location,
        started_at=read_moment(record["StartTime"]),
    )
