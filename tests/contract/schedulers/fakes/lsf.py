"""LSF, as 10.1 is documented to write, and as its users quote it (see `balsam.schedulers.lsf`)."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time

from tests.contract.schedulers.world import CORES, NUM_NODES, QUEUES, Request, World, hosts

AWAY = ("Failed in an LSF library call: LIM is down; try later", 255)
SUBMIT = "bsub"
REFUSAL = r"bsub: nope: No such queue\. Job not submitted\."
#: Its times have no seconds.
PRECISION = 60.0
_REFUSED = {
    "queue": "{0}: No such queue",
    "closed": "{0}: Queue has been closed",
    "nodes": "Too many tasks requested",
    "time": "RUNLIMIT: Cannot exceed queue's hard limit(s)",
}


def bsub(world: World, args: list[str], stdin: str) -> int:
    words = [
        word
        for line in stdin.splitlines()
        if line.startswith("#BSUB ")
        for word in shlex.split(line.removeprefix("#BSUB "))
    ]
    given = dict(zip(words[::2], words[1::2], strict=False))
    tile = re.search(r"span\[ptile=(\d+)\]", given.get("-R", ""))
    request = Request(
        id=0,
        name=given["-J"],
        queue=given.get("-q", ""),
        project=given.get("-P", ""),
        nodes=int(given["-n"]) // int(tile[1]) if tile else int(given["-nnodes"]),
        minutes=float(given["-W"]),
        output=given["-o"],
        directory=given["-cwd"],
        words=words,
    )
    problem = world.problem(request)
    if problem:
        text = _REFUSED[problem].format(request.queue)
        print(f"{text}. Job not submitted.", file=sys.stderr)
        return 255
    request = world.submit(request)
    kind = "queue" if given.get("-q") else "default queue"
    print(f"Job <{request.id}> is submitted to {kind} <{request.queue}>.")
    return 0


def bjobs(world: World, args: list[str], stdin: str) -> int:
    if args == ["-V"]:
        print("IBM Spectrum LSF Standard 10.1.0.12, Jun 10 2021", file=sys.stderr)
        return 0
    fields = args[args.index("-o") + 1].upper().split()
    known = [request for request in world.requests if not request.forgotten]
    if "-J" in args:
        name = args[args.index("-J") + 1]
        found = [request for request in known if request.name == name]
        missing = [] if found else [name]
    else:
        ids = args[args.index("-o") + 2 :]
        found = [request for request in known if str(request.id) in ids]
        missing = [each for each in ids if each not in {str(request.id) for request in found}]
    for each in missing:
        print(f"Job <{each}> is not found", file=sys.stderr)
    if found:
        records = [{key: _record(world, each)[key] for key in fields} for each in found]
        print(json.dumps({"COMMAND": "bjobs", "JOBS": len(found), "RECORDS": records}, indent=2))
    return 255 if missing else 0


def _record(world: World, request: Request) -> dict[str, str]:
    word = {"queued": "PEND", "held": "PSUSP", "running": "RUN", "ended": "EXIT"}[request.state]
    word = "DONE" if request.fate == "finished" else word
    code = {"timeout": 140, "cancelled": 130}.get(request.fate, request.code)
    reason = {
        "timeout": "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
        "cancelled": "TERM_OWNER: job killed by owner",
    }
    limit = "" if request.started is None else _date(request.started + request.minutes * 60) + " L"
    is_over = request.state == "ended"
    return {
        "JOBID": str(request.id),
        "STAT": "HIBERN" if world.is_strange else word,
        "QUEUE": request.queue,
        "JOB_NAME": request.name,
        "EXEC_HOST": ":".join(f"{CORES}*{host}" for host in request.hosts),
        "EXIT_CODE": str(code) if word == "EXIT" and request.started is not None else "",
        "EXIT_REASON": reason.get(request.fate, ""),
        "PEND_REASON": "Not enough hosts to meet the job's spanning requirement;"
        if word == "PEND"
        else "",
        "START_TIME": _date(request.started),
        "FINISH_TIME": _date(request.ended) if is_over else limit,
        "ESTIMATED_START_TIME": "",
    }


def _date(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%b %e %H:%M", time.localtime(seconds))


def bhist(world: World, args: list[str], stdin: str) -> int:
    found = [request for request in world.requests if str(request.id) in args]
    if not found:
        print("No matching job found", file=sys.stderr)
        return 255
    for request in found:
        lines = [f"Job <{request.id}>, Job Name <{request.name}>, User <root>, Project <default>"]
        lines.append(f"{_full(request.submitted)}: Submitted from host <login1>, to Queue <debug>;")
        if request.started is not None:
            lines.append(f"{_full(request.started)}: Dispatched {CORES} Task(s) on Host(s);")
            lines.append(f"{_full(request.started)}: Starting (Pid 658);")
        if request.ended is not None:
            lines += [f"{_full(request.ended)}: {text}" for text in _end(request)]
        for line in lines:
            print("\n".join(_folded(line)))
        print("\nSummary of time in seconds spent in various states by  Thu Apr 18 10:02:01")
        print("  PEND     PSUSP    RUN      USUSP    SSUSP    UNKWN    TOTAL")
        print("  48       0        10       0        0        0        58")
        print("-" * 78)
    return 0


def _end(request: Request) -> list[str]:
    if request.fate == "finished":
        return ["Done successfully. The CPU time used is 0.1 seconds;"]
    code = {"timeout": 140, "cancelled": 130}.get(request.fate, request.code)
    term = {
        "timeout": "; TERM_RUNLIMIT: job killed after reaching LSF run time limit",
        "cancelled": "; TERM_OWNER: job killed by owner",
    }.get(request.fate, "")
    return [
        f"Exited with exit code {code}. The CPU time used is 0.1 seconds;",
        f"Completed <exit>{term};",
    ]


def _full(seconds: float) -> str:
    return time.strftime("%a %b %e %H:%M:%S", time.localtime(seconds))


def _folded(line: str) -> list[str]:
    """Fold a line at column 79, with 21 blanks before what follows."""
    lines = [line[:79]]
    rest = line[79:]
    while rest:
        lines.append(" " * 21 + rest[:58])
        rest = rest[58:]
    return lines


def bkill(world: World, args: list[str], stdin: str) -> int:
    code = 0
    for each in args:
        request = world.get(int(each))
        if request is None:
            print(f"Job <{each}>: No matching job found", file=sys.stderr)
            code = 255
        elif request.ended is not None:
            print(f"Job <{each}>: Job has already finished", file=sys.stderr)
            code = 255
        else:
            print(f"Job <{each}> is being terminated")
            world.end(request.id, "cancelled")
    return code


def bqueues(world: World, args: list[str], stdin: str) -> int:
    for number, each in enumerate(QUEUES):
        if number:
            print("-" * 79)
        note = "  This is the default queue." if each.is_default else ""
        status = "Open:Active" if each.is_open else "Closed:Inact"
        print(f"\nQUEUE: {each.name}\n  -- For jobs.{note}\n")
        print("PARAMETERS/STATISTICS")
        print("PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV")
        print(f" 30    0  {status:<15}   -    -    -    -     0     0     0     0     0    0")
        print("Interval for a host to accept two jobs is 0 seconds\n")
        print(" DEFAULT LIMITS:\n RUNLIMIT\n 10.0 min\n")
        print(" MAXIMUM LIMITS:\n CPULIMIT             RUNLIMIT")
        print(f" 90000.0 min of node1 {each.max_minutes:.1f} min of node1\n")
        if each.max_nodes < NUM_NODES:
            print(f" TASKLIMIT\n 1 1 {each.max_nodes * CORES}\n")
        print("SCHEDULING PARAMETERS")
        print("           r15s   r1m  r15m   ut      pg    io   ls    it    tmp    swp    mem")
        print(" loadSched   -     -     -     -       -     -    -     -     -      -      -\n")
        print("USERS: all\nHOSTS:  compute/")
    return 0


def bhosts(world: World, args: list[str], stdin: str) -> int:
    free = world.free_hosts
    records = [
        {"HOST_NAME": host, "STATUS": "ok" if host in free else "closed", "MAX": str(CORES)}
        for host in hosts()
    ]
    records.append({"HOST_NAME": "login1", "STATUS": "closed_Adm", "MAX": "-"})
    found = {"COMMAND": "bhosts", "HOSTS": len(records), "RECORDS": records}
    print(json.dumps(found, indent=2))
    return 0


def bmgroup(world: World, args: list[str], stdin: str) -> int:
    print("GROUP_NAME    HOSTS")
    print(f"compute      {' '.join(hosts())}")
    return 0


def bslots(world: World, args: list[str], stdin: str) -> int:
    free = world.free_hosts
    if not free:
        print("No backfill window exists at this time")
        return 0
    print(f"SLOTS:    {len(free) * CORES}")
    print("RUNTIME:  6 hours 37 minutes 0 seconds")
    print(f"HOSTS:    {' '.join(f'{CORES}*{host}' for host in free)}\n")
    return 0


COMMANDS = {
    "bsub": bsub,
    "bjobs": bjobs,
    "bhist": bhist,
    "bkill": bkill,
    "bqueues": bqueues,
    "bhosts": bhosts,
    "bmgroup": bmgroup,
    "bslots": bslots,
}
