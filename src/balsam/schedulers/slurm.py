"""Slurm.

Sources: sbatch(1), squeue(1), sinfo(1), scontrol(1), scancel(1), sacct(1) of Slurm 22.05 to 24.11.
Seen with 22.05.8:

- ``squeue --jobs`` with one id that is not known fails ("Invalid job id specified"), and with
  several says nothing of it; so all of the user's are asked for.
- ``squeue --states=all`` knows what has ended for MinJobAge (300 s by default), with its exit
  code as wait(2) gives it (768 is 3), and sacct only where there is a slurmdbd.
- Users may set SQUEUE_… and SLURM_TIME_FORMAT: see `command`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from balsam.model.batch_job import ENDED_STATES, WAITING_STATES, BatchState
from balsam.schedulers import slurm_words as words
from balsam.schedulers.answers import (
    failure,
    of_ours,
    rows_after,
    says,
    text_of,
    unreadable,
)
from balsam.schedulers.scheduler import (
    Answer,
    Queue,
    Run,
    Status,
    Submission,
    Window,
)
from balsam.schedulers.slurm_partitions import (
    limited,
    quality_of,
    queue_of,
    read_partitions,
    windows_of,
)
from balsam.schedulers.times import moment, walltime

#: The name is last: others may have any character in it.
_SQUEUE = "JobID:|,State:|,Reason:|,Partition:|,NodeList:|,StartTime:|,EndTime:|,exit_code:|,Name:|"
SQUEUE_HEADER = "JOBID|STATE|REASON|PARTITION|NODELIST|START_TIME|END_TIME|EXIT_CODE|NAME|"
_SACCT = "JobIDRaw|State|Reason|Partition|NodeList|Start|End|ExitCode|JobName"
_SACCTMGR = "Name|MaxWall|MaxTRES|MaxSubmitPU"
_SINFO = "PARTITION|NODES|STATE|S:C:T|MEMORY|GRES"

AWAY = re.compile(
    r"unable to contact slurm controller|socket timed out|connection (refused|timed out|reset)"
    r"|communication connection failure|zero bytes were transmitted|controller not responding"
    r"|standby mode|temporarily unable|resource temporarily unavailable|transport endpoint"
    r"|unable to establish|slurm_persist_conn_open|problem talking to the database"
    r"|unexpected message received|protocol authentication error|munge|no route to host"
    r"|host is unreachable",
    re.IGNORECASE,
)
_OVER = re.compile(r"invalid job id|already complet|already finished", re.IGNORECASE)
_NO_ACCOUNTS = re.compile(r"accounting storage is disabled", re.IGNORECASE)


class Slurm:
    """Slurm 20.11 and later."""

    name = "slurm"

    def is_here(self, run: Run) -> bool:
        return says(run, ["sbatch", "--version"], r"^slurm\S* \d")

    # requests --------------------------------------------------------------------------------

    def directives(self, submission: Submission) -> list[str]:
        lines = [
            f"--job-name={submission.name}",
            f"--nodes={submission.num_nodes}",
            # All of each node. --mem=0: without it, a step has DefMemPerCPU.
            "--exclusive",
            "--mem=0",
            f"--time={walltime(submission.minutes)}",
            f"--output={_quoted(submission.output.replace('%', '%%'))}",
            "--open-mode=append",
            f"--chdir={_quoted(submission.directory)}",
        ]
        if submission.gpus_per_node:
            # Not --gpus-per-node, which each srun in the script would inherit.
            lines.append(f"--gres=gpu:{submission.gpus_per_node}")
        if submission.queue:
            lines.append(f"--partition={_quoted(submission.queue)}")
        if submission.project:
            lines.append(f"--account={_quoted(submission.project)}")
        if submission.flags:
            lines.append(" ".join(map(_quoted, submission.flags)))
        return [f"#SBATCH {line}" for line in lines]

    def submit(self, run: Run, submission: Submission) -> str:
        answer = run(["sbatch", "--parsable", submission.script])
        text = text_of(answer, AWAY)
        # Sites print greetings before it; a cluster's name may follow it.
        found = [line for line in text.splitlines() if re.fullmatch(r"\d+(;\S+)?", line.strip())]
        if not found:
            raise unreadable(answer, text.strip(), "the id of the request")
        return found[-1].strip().split(";")[0]

    def find(self, run: Run, name: str) -> str | None:
        found = self._squeue(run, f"--name={name}")
        ids = [line.split("|")[0] for line in found if line.endswith(f"|{name}|")]
        if not ids:
            ids = [
                line.split("|")[0]
                for line in self._sacct(run, f"--name={name}", "--starttime=now-7days")
                if line.endswith(f"|{name}")
            ]
        numbers = [int(each) for each in ids if each.isdecimal()]
        return str(max(numbers)) if numbers else None

    def status(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        if not ids:
            return {}
        lines = of_ours(self._squeue(run), ids)
        return {each.scheduler_id: each for each in map(_status, lines)}

    def history(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        if not ids:
            return {}
        found = self.status(run, ids)
        missing = [each for each in ids if each not in found]
        if missing:
            lines = of_ours(self._sacct(run, f"--jobs={','.join(missing)}"), missing)
            found |= {each.scheduler_id: each for each in map(_past, lines)}
        over = ENDED_STATES | {BatchState.UNKNOWN}
        return {number: each for number, each in found.items() if each.state in over}

    def cancel(self, run: Run, ids: Sequence[str]) -> None:
        if not ids:
            return
        answer = run(["scancel", "--quiet", *ids])
        if answer.code and not all(map(_OVER.search, answer.err.strip().splitlines())):
            raise failure(answer, AWAY)

    # queues ----------------------------------------------------------------------------------

    def queues(self, run: Run) -> list[Queue]:
        answer = run(["scontrol", "--oneliner", "show", "partition"])
        partitions = read_partitions(answer, text_of(answer, AWAY))
        groups = self._sinfo(run)
        found = [queue_of(answer, fields, groups) for fields in partitions]
        limits = self._qualities(run) if any(map(quality_of, partitions)) else {}
        return [
            limited(queue, limits[quality_of(fields)]) if quality_of(fields) in limits else queue
            for queue, fields in zip(found, partitions, strict=True)
        ]

    def windows(self, run: Run) -> list[Window]:
        return windows_of(self._sinfo(run))

    # commands --------------------------------------------------------------------------------

    def _squeue(self, run: Run, *options: str) -> list[str]:
        """Return the lines about the user's requests."""
        ours = [f"--user={os.getuid()}", "--states=all"]
        answer = run(["squeue", *ours, *options, f"--Format={_SQUEUE}"])
        return rows_after(answer, SQUEUE_HEADER, text_of(answer, AWAY))

    def _sacct(self, run: Run, *options: str) -> list[str]:
        """Return the lines about ended requests; [] where Slurm has no accounting."""
        form = f"--format={_SACCT.replace('|', ',')}"
        answer = run(["sacct", "--allocations", "--parsable2", *options, form])
        if answer.code and _NO_ACCOUNTS.search(answer.err):
            return []
        return rows_after(answer, _SACCT, text_of(answer, AWAY))

    def _qualities(self, run: Run) -> dict[str, dict[str, str]]:
        """Return the limits of each quality of service."""
        names = _SACCTMGR.replace("|", ",")
        answer = run(["sacctmgr", "--parsable2", "show", "qos", f"format={names}"])
        found = {}
        for line in rows_after(answer, _SACCTMGR, text_of(answer, AWAY)):
            fields = line.split("|")
            if len(fields) != 4:
                raise unreadable(answer, line, f"a line as {_SACCTMGR}")
            found[fields[0]] = dict(zip(_SACCTMGR.split("|"), fields, strict=True))
        return found

    def _sinfo(self, run: Run) -> list[list[str]]:
        """Return partition, nodes, state, sockets:cores:threads, MiB and GPUs of groups."""
        answer = run(["sinfo", "--exact", "--format=%R|%D|%T|%z|%m|%G"])
        lines = rows_after(answer, _SINFO, text_of(answer, AWAY))
        groups = [line.rstrip().split("|", 5) for line in lines if line.strip()]
        for fields in groups:
            if len(fields) < 6 or not fields[1].isdecimal():
                raise unreadable(answer, "|".join(fields), f"a line as {_SINFO}")
        return groups


def _quoted(word: str) -> str:
    """Return *word* as it stands on a line of directives, which is split at spaces."""
    if re.fullmatch(r"[\w.,:;=/@%+-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _status(line: str) -> Status:
    """Read a line of squeue."""
    fields = line.split("|")
    answer = Answer(argv=("squeue",), code=0, out=line, err="")
    if len(fields) < 10 or fields[-1]:
        raise unreadable(answer, line, f"a line as {SQUEUE_HEADER}")
    return _read(answer, fields)


def _past(line: str) -> Status:
    """Read a line of sacct."""
    fields = line.split("|", 8)
    answer = Answer(argv=("sacct",), code=0, out=line, err="")
    if len(fields) < 9:
        raise unreadable(answer, line, f"a line as {_SACCT}")
    return _read(answer, fields)


def _read(answer: Answer, fields: Sequence[str]) -> Status:
    number, word, why, partition, nodes, start, end, code, *_ = fields
    state, alone = words.state(word, why)
    # Of those that never ran, times are those of their end, and the code is 0.
    nodes = "" if nodes in ("None assigned", "(null)") else nodes
    try:
        began, ended = moment(start), moment(end)
        exit_code = _exit_code(code)
    except ValueError:
        raise unreadable(answer, answer.out, "an exit code") from None
    return Status(
        scheduler_id=number,
        state=state,
        word=alone,
        reason=_reason(state, word, why),
        queue=partition,
        nodes=nodes,
        exit_code=exit_code if nodes and state in ENDED_STATES else None,
        starts_at=began if state in WAITING_STATES else None,
        started_at=began if nodes and state not in WAITING_STATES else None,
        ended_at=ended if state in ENDED_STATES else None,
    )


def _reason(state: BatchState, word: str, why: str) -> str:
    """Return why it waits, or how it ended; of what was cancelled, by whom, where that is told."""
    match state:
        case BatchState.CANCELLED:
            return word.removeprefix("CANCELLED").strip()
        case BatchState.FAILED | BatchState.TIMEOUT:
            return word if why in ("", "None") else f"{word}: {why}"
        case _:
            return words.reason(why)


def _exit_code(text: str) -> int:
    """Read ``3:0`` and ``0:9``, exit code and signal, or both in one as wait(2) gives them."""
    if ":" in text:
        code, signal = map(int, text.split(":"))
    else:
        code, signal = int(text) >> 8, int(text) & 0x7F
    return -signal if signal else code
