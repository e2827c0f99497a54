"""PBS Professional and OpenPBS.

Sources: qsub(1B), qstat(1B), qselect(1B), qdel(1B), pbsnodes(8B), pbs_job_attributes(7B) of
OpenPBS 23.06, its source (qstat.c, job.h, pbs_ifl.h), the PBS Professional 2022.1 guides; captured
output of OpenPBS 23.06.06. What is worth knowing:

- ``qstat`` with ids that it does not know ends with 153 (35 for finished ones), and still writes
  the others.
- An ``Exit_status`` of 256 and more is that and a signal's number; one below 0 is PBS's own (-29:
  killed at its walltime). ``substate`` 91 is deleted, 92 finished, 93 failed.
- History is there only where the server keeps it (``job_history_enable``).
- There is no option for the directory where a script starts: the directives end with ``cd``.
- Names can have 230 characters (PBS_MAXJOBNAME; 15 before PBS Professional 13).

Torque has commands of the same names, but neither its JSON nor its `select`: it is not this.
"""

from __future__ import annotations

import getpass
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise

from balsam.model.batch_job import ENDED_STATES, BatchState
from balsam.schedulers import pbs_documents as documents
from balsam.schedulers.answers import failure, says, text_of, unreadable
from balsam.schedulers.pbs_documents import pbs_document
from balsam.schedulers.pbs_queues import read_hosts, read_queues, read_windows
from balsam.schedulers.scheduler import Answer, Queue, Run, Status, Submission, Window
from balsam.schedulers.times import duration, moment, walltime

AWAY = re.compile(
    r"cannot connect to server|connection (refused|reset|timed out)|pbs_iff|invalid credential"
    r"|no route to host|host is unreachable|end of file|communication failure|shutting down"
    r"|premature end of message|temporarily unavailable|unable to (connect|contact)"
    r"|cannot resolve|unknown host|protocol \(asn\.1\)",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"unknown job id|has finished|illegally formed job", re.IGNORECASE)
_OVER = re.compile(r"unknown job id|has finished|invalid for (the )?state", re.IGNORECASE)
_NO_HISTORY = re.compile(r"not configured to maintain job history|job_history", re.IGNORECASE)
_NO_NODES = re.compile(r"no node list", re.IGNORECASE)

_STATES = {
    "T": BatchState.QUEUED,  # on its way to the server
    "Q": BatchState.QUEUED,
    "W": BatchState.QUEUED,  # for its time to come
    "H": BatchState.HELD,
    "B": BatchState.RUNNING,
    "R": BatchState.RUNNING,
    "S": BatchState.RUNNING,  # suspended: it has begun, and goes on
    "U": BatchState.RUNNING,
    "E": BatchState.ENDING,
}
_DELETED = 91
_KILLED_AT_WALLTIME = -29


class Pbs:
    """PBS Professional 18 and later, OpenPBS 19 and later."""

    name = "pbs"

    def is_here(self, run: Run) -> bool:
        return says(run, ["qstat", "--version"], r"^pbs_version")

    # requests --------------------------------------------------------------------------------

    def directives(self, submission: Submission) -> list[str]:
        chunk = f"{submission.num_nodes}"
        chunk += f":ncpus={submission.cores_per_node}" if submission.cores_per_node else ""
        chunk += f":ngpus={submission.gpus_per_node}" if submission.gpus_per_node else ""
        resources = {
            "select": chunk,
            "place": "scatter:excl",
            "walltime": walltime(submission.minutes),
        }
        lines = [f"-N {_job_name(submission.name)}"]
        # Given twice, a resource is an error: the user's stands.
        theirs = _resources(submission.flags)
        lines += [f"-l {name}={text}" for name, text in resources.items() if name not in theirs]
        # -k doe: written as it comes, not copied at the end, where the file can be reached.
        lines += ["-j oe", "-k doe", f"-o {shlex.quote(submission.output)}"]
        lines += [f"-q {shlex.quote(submission.queue)}"] if submission.queue else []
        lines += [f"-A {shlex.quote(submission.project)}"] if submission.project else []
        lines += [shlex.join(submission.flags)] if submission.flags else []
        start = f"cd {shlex.quote(submission.directory)} || exit"
        return [*(f"#PBS {line}" for line in lines), start]

    def submit(self, run: Run, submission: Submission) -> str:
        answer = run(["qsub", submission.script])
        words = [line.strip() for line in text_of(answer, AWAY).splitlines()]
        found = [word for word in words if re.fullmatch(r"\d+(\.[\w.-]+)?", word)]
        if not found:
            raise unreadable(answer, answer.out.strip(), "the id of the request")
        return found[-1]

    def find(self, run: Run, name: str) -> str | None:
        mine = ["-u", getpass.getuser(), "-N", _job_name(name)]
        answer = run(["qselect", "-x", *mine])
        if answer.code and _NO_HISTORY.search(answer.err):
            answer = run(["qselect", *mine])
        words = [line.strip() for line in text_of(answer, AWAY).splitlines()]
        found = [word for word in words if re.fullmatch(r"\d+\.[\w.-]+", word)]
        if found:
            return max(found, key=_number)
        # It says nothing of no requests: that its answer was not lost, another one has to show.
        self._server(run)
        return None

    def status(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        return self._qstat(run, ids) if ids else {}

    def history(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        found = self._qstat(run, ids, "-x") if ids else {}
        over = ENDED_STATES | {BatchState.UNKNOWN}
        return {each: status for each, status in found.items() if status.state in over}

    def cancel(self, run: Run, ids: Sequence[str]) -> None:
        if not ids:
            return
        answer = run(["qdel", *ids])
        if answer.code and not all(map(_OVER.search, answer.err.strip().splitlines())):
            raise failure(answer, AWAY)

    # queues ----------------------------------------------------------------------------------

    def queues(self, run: Run) -> list[Queue]:
        server = self._server(run)
        answer, queues = self._queues(run)
        hosts = read_hosts(*self._nodes(run))
        return read_queues(answer, queues, server, hosts, getpass.getuser())

    def windows(self, run: Run) -> list[Window]:
        _, queues = self._queues(run)
        return read_windows(queues, read_hosts(*self._nodes(run)))

    # commands --------------------------------------------------------------------------------

    def _qstat(self, run: Run, ids: Sequence[str], *options: str) -> dict[str, Status]:
        answer = run(["qstat", *options, "-f", "-F", "json", *ids])
        complaints = answer.err.strip().splitlines()
        if answer.code and _NO_HISTORY.search(answer.err):
            return {}
        if answer.code and not (complaints and all(map(_UNKNOWN.search, complaints))):
            raise failure(answer, AWAY)
        if answer.code and "{" not in answer.out:
            return {}
        wanted = {_number(each): each for each in ids}
        jobs = pbs_document(answer, answer.out).jobs
        ours = [
            (wanted[_number(each)], job) for each, job in jobs.items() if _number(each) in wanted
        ]
        return {each: _status(each, job) for each, job in ours}

    def _server(self, run: Run) -> documents.Server:
        answer = run(["qstat", "-B", "-f", "-F", "json"])
        servers = pbs_document(answer, text_of(answer, AWAY)).servers
        if not servers:
            raise unreadable(answer, answer.out.strip(), "a server")
        return next(iter(servers.values()))

    def _queues(self, run: Run) -> tuple[Answer, Mapping[str, documents.Queue]]:
        answer = run(["qstat", "-Q", "-f", "-F", "json"])
        queues = pbs_document(answer, text_of(answer, AWAY)).queues
        if not queues:
            raise unreadable(answer, answer.out.strip(), "a queue")
        return answer, queues

    def _nodes(self, run: Run) -> tuple[Answer, Mapping[str, documents.Node]]:
        answer = run(["pbsnodes", "-a", "-F", "json"])
        if answer.code and _NO_NODES.search(answer.err):
            return answer, {}
        return answer, pbs_document(answer, text_of(answer, AWAY)).nodes


def _job_name(name: str) -> str:
    """Return *name* as PBS takes it: it begins with a letter."""
    return name if name[:1].isalpha() else f"b{name}"


def _number(scheduler_id: str) -> int:
    """Return the number of an id, of whose server's name some commands leave out a part."""
    digits = re.match(r"\d+", scheduler_id)
    return int(digits[0]) if digits else -1


def _resources(flags: Sequence[str]) -> set[str]:
    """Return the names in the ``-l name=value,…`` of the user's flags."""
    values = [after for flag, after in pairwise(flags) if flag == "-l"]
    values += [flag[2:] for flag in flags if flag.startswith("-l") and flag != "-l"]
    return {item.partition("=")[0].strip() for value in values for item in value.split(",")}


def _status(scheduler_id: str, job: documents.Job) -> Status:
    word = job.state
    state, code = _end(job) if word in ("F", "X") else (_STATES.get(word, BatchState.UNKNOWN), None)
    started = moment(job.started or "-")
    ended = job.obituary or job.history_timestamp or job.changed or "-"
    return Status(
        scheduler_id=scheduler_id,
        state=state,
        word=word,
        reason="" if state in (BatchState.RUNNING, BatchState.FINISHED) else job.comment,
        queue=job.queue,
        nodes=_hosts(job.exec_host),
        exit_code=code,
        starts_at=moment(job.estimated.start_time or "-") if started is None else None,
        started_at=started,
        ended_at=moment(ended) if state in ENDED_STATES else None,
    )


def _end(job: documents.Job) -> tuple[BatchState, int | None]:
    """Return how a job has ended, and its exit code."""
    if job.exit_status is None:  # it never ran
        return (BatchState.CANCELLED if job.substate == _DELETED else BatchState.FAILED), None
    code = job.exit_status
    told = None if code < 0 else code if code < 256 else 256 - code
    if code == _KILLED_AT_WALLTIME or "exceeded resource walltime" in job.comment:
        return BatchState.TIMEOUT, told
    if job.substate == _DELETED:
        return BatchState.CANCELLED, told
    # Old versions only tell that a signal ended it.
    if code >= 256 and _is_used_up(job):
        return BatchState.TIMEOUT, told
    return (BatchState.FAILED if code else BatchState.FINISHED), told


def _is_used_up(job: documents.Job) -> bool:
    used = duration(job.used.walltime or "-")
    asked = duration(job.asked.walltime or "-")
    return used is not None and asked is not None and used >= asked


def _hosts(text: str) -> str:
    """Return the hosts of ``h1/0*2+h2/0*2``, each once."""
    names = [item.partition("/")[0] for item in text.split("+")]
    return ",".join(dict.fromkeys(filter(None, names)))
