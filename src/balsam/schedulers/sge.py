"""Grid Engine: Son of Grid Engine, Univa and Altair Grid Engine, Open Cluster Scheduler.

Sources: qsub(1), qstat(1), qacct(1), qdel(1), qconf(1), qhost(1) of Grid Engine 8.1.9. Seen with
8.1.9:

- ``qstat -xml`` has whole names (the table cuts them) and local times.
- A request in error (Eqw) has a record in qacct, and waits nevertheless.
- A request that is deleted while it waits has no record; ``qstat -s z`` knows it for a while.
- ``qrsh -inherit`` makes a record of its own, with the number of its job.
- ``qstat -j … -xml`` ends with 0 when it could not ask.
- In a line ``#$``, '#' begins a comment also within quotes, and '$' is a variable.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import msgspec

from balsam.errors import SchedulerRefused
from balsam.model.batch_job import WAITING_STATES
from balsam.schedulers import sge_jobs, sge_queues
from balsam.schedulers.answers import failure, says, text_of, unreadable
from balsam.schedulers.scheduler import Answer, Queue, Run, Status, Submission, Window
from balsam.schedulers.times import walltime

AWAY = re.compile(
    r"commlib error|unable to (send message|contact)|got (send|select|read) error|communication"
    r"|connection refused|timed? ?out|can't resolve|qmaster (is )?not|comunication_error"
    r"|unable to read qmaster name",
    re.IGNORECASE,
)
_OVER = re.compile(r"does not exist|already in deletion|has registered|has deleted", re.IGNORECASE)
_NO_RECORD = re.compile(r"not found|no such file|no jobs running since startup", re.IGNORECASE)
_PLAIN = re.compile(r"[\w.,:*/+@=-]+")
#: Of a path: a colon would end a host's name there, a comma the path.
_PLAIN_PATH = re.compile(r"/[\w./+@=-]*")


class GridEngine:
    """Grid Engine 8 and later, with its commands in PATH and its cell in SGE_ROOT."""

    name = "sge"

    def is_here(self, run: Run) -> bool:
        # Where the commands are installed, and no cell is, this is an error and no help.
        return says(
            run, ["qstat", "-help"], r"^(SGE|[UOA]?GE|OGS|OCS|GCS|(Altair|Univa) Grid Engine)\b.*\d"
        )

    # requests --------------------------------------------------------------------------------

    def directives(self, submission: Submission) -> list[str]:
        """See `Scheduler`. The parallel environment is chosen when it is submitted."""
        output, directory = submission.output, submission.directory
        plain = _PLAIN_PATH.fullmatch(output) and _PLAIN_PATH.fullmatch(directory)
        lines = [
            f"-N {_name(submission.name)}",
            f"-l h_rt={walltime(submission.minutes)}",
            f"-o {output if plain else '/dev/null'}",
            "-j y",
            f"-wd {directory if plain else '/'}",
            "-S /bin/bash",
        ]
        if submission.queue:
            lines.append(f"-q {_quoted(submission.queue)}")
        if submission.project:
            lines.append(f"-P {_quoted(submission.project)}")
        if submission.flags:
            lines.append(" ".join(map(_quoted, submission.flags)))
        lines = [f"#$ {line}" for line in lines]
        if not plain:
            lines.append(f"exec >>{shlex.quote(output)} 2>&1")
            lines.append(f"cd {shlex.quote(directory)}")
        return lines

    def submit(self, run: Run, submission: Submission) -> str:
        nodes = [] if "-pe" in submission.flags else self._nodes(run, submission)
        answer = run(["qsub", "-terse", *nodes, submission.script])
        text = text_of(answer, AWAY)
        found = [line for line in text.splitlines() if re.fullmatch(r"\d+", line.strip())]
        if not found:
            raise unreadable(answer, text.strip(), "the id of the request")
        return found[-1].strip()

    def find(self, run: Run, name: str) -> str | None:
        named = _name(name)
        here = [job for job in self._qstat(run) if job.findtext("JB_name") == named]
        numbers = [job.findtext("JB_job_number", "") for job in here]
        if not numbers:
            records = self._qacct(run, named)
            numbers = [each["jobnumber"] for each in records if each["jobname"] == named]
        return max(numbers, key=int) if numbers else None

    def status(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        if not ids:
            return {}
        wanted = set(ids)
        ours = [job for job in self._qstat(run) if job.findtext("JB_job_number") in wanted]
        found = {each.scheduler_id: each for each in map(sge_jobs.status_of, ours)}
        waiting = [number for number, each in found.items() if each.state in WAITING_STATES]
        if waiting:
            answer = run(["qstat", "-xml", "-j", ",".join(waiting)])
            for number, reason in sge_jobs.reasons(answer.out, waiting).items():
                found[number] = msgspec.structs.replace(found[number], reason=reason)
        return found

    def history(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        if not ids:
            return {}
        waiting = {job.findtext("JB_job_number") for job in self._qstat(run)}
        gone = [number for number in ids if number not in waiting]
        found = {}
        for number in gone:
            if status := sge_jobs.end_of(number, self._qacct(run, number)):
                found[number] = status
        if any(number not in found for number in gone):
            deleted = sge_jobs.deleted(self._qstat(run, "-s", "z"))
            found |= {
                number: deleted[number] for number in gone if number in deleted.keys() - found
            }
        return found

    def cancel(self, run: Run, ids: Sequence[str]) -> None:
        if not ids:
            return
        answer = run(["qdel", *ids])
        lines = [line for line in f"{answer.out}\n{answer.err}".splitlines() if line.strip()]
        if answer.code and not all(map(_OVER.search, lines)):
            raise failure(answer, AWAY)

    # queues ----------------------------------------------------------------------------------

    def queues(self, run: Run) -> list[Queue]:
        answer, configs = self._configs(run, "*")
        there = self._instances(run)
        found = [sge_queues.queue_of(answer, config, there) for config in configs]
        # The scheduler looks in all of them; only one alone is what requests go to.
        return [msgspec.structs.replace(each, is_default=len(found) == 1) for each in found]

    def windows(self, run: Run) -> list[Window]:
        return sge_queues.windows_of(self._instances(run))

    # commands --------------------------------------------------------------------------------

    def _qstat(self, run: Run, *options: str) -> list[Element]:
        """Return the user's requests."""
        user = pwd.getpwuid(os.getuid()).pw_name
        answer = run(["qstat", "-xml", "-u", user, *options])
        root = sge_jobs.document(answer, text_of(answer, AWAY), "job_info")
        return list(root.iter("job_list"))

    def _qacct(self, run: Run, job: str) -> list[dict[str, str]]:
        """Return the records of a request, by number or name; [] if none is written."""
        answer = run(["qacct", "-j", job])
        if answer.code and _NO_RECORD.search(answer.err):
            return []
        return sge_jobs.records(answer, text_of(answer, AWAY))

    def _instances(self, run: Run) -> list[sge_queues.Instance]:
        answer = run(["qhost", "-q", "-xml"])
        return sge_queues.instances(
            answer, sge_jobs.document(answer, text_of(answer, AWAY), "qhost")
        )

    def _configs(self, run: Run, queue: str) -> tuple[Answer, list[dict[str, str]]]:
        answer = run(["qconf", "-sq", queue])
        found = sge_queues.blocks(text_of(answer, AWAY), "qname")
        if not found:
            raise unreadable(answer, answer.out.strip(), "qname …")
        return answer, found

    def _nodes(self, run: Run, submission: Submission) -> list[str]:
        """Return the words that ask for whole nodes."""
        try:
            _, configs = self._configs(run, submission.queue or "*")
        except SchedulerRefused:
            return []  # qsub says it better
        slots = submission.cores_per_node or sge_queues.slots_of(configs)
        if slots * submission.num_nodes == 1:
            return []
        rules: dict[str, str] = {}
        for name in sge_queues.environments_of(configs):
            text = text_of(run(["qconf", "-sp", name]), AWAY)
            rules |= {
                each["pe_name"]: each.get("allocation_rule", "")
                for each in sge_queues.blocks(text, "pe_name")
            }
        name = sge_queues.best_environment(rules, submission.num_nodes, slots)
        if not name:
            raise SchedulerRefused(
                f"no parallel environment of {submission.queue or 'any queue'} gives"
                f" {submission.num_nodes} nodes of {slots} slots; name one: --sched-flags"
                f" '-pe NAME {slots * submission.num_nodes}'"
            )
        return ["-pe", name, str(slots * submission.num_nodes)]


def _name(name: str) -> str:
    """Return *name* as it is allowed: none begins with a digit."""
    return f"j{name}" if name[:1].isdecimal() else name


def _quoted(word: str) -> str:
    return word if _PLAIN.fullmatch(word) else f'"{word}"'
