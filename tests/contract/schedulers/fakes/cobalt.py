"""Cobalt, as its clients of 1.0 print, with the node list of Theta."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.contract.schedulers.world import NUM_NODES, QUEUES, Request, World, hosts

AWAY = ("component error: Failed to connect to queue-manager\n", 1)
SUBMIT = "qsub"
REFUSAL = r"qsub: component error: XMLRPC failure .*queue 'nope' does not exist"
TELLS_CORES = False
_REFUSED = {
    "queue": "queue '{0}' does not exist",
    "closed": "The queue {0} is draining",
    "nodes": "The limit of nodes for the queue {0} is exceeded",
    "time": "Walltime greater than the '{0}' queue max walltime",
}


def qsub(world: World, args: list[str], stdin: str) -> int:
    # Blanks are taken out of its path, before that is made an absolute one.
    script = Path(args[args.index("--cwd") + 1]) / args[-1].replace(" ", "")
    if not script.is_file():
        print(f"command {script} not found, or is not a file", file=sys.stderr)
        return 1
    lines = script.read_text().splitlines()[1:]
    words: list[str] = []
    for line in lines:
        if not line.startswith("#COBALT "):
            break
        words += line.removeprefix("#COBALT ").split()
    words += args[:-1]
    given = dict(zip(words[::2], words[1::2], strict=True))
    request = Request(
        id=0,
        name=given["--jobname"],
        queue=given.get("-q", ""),
        project=given.get("-A", ""),
        nodes=int(given["-n"]),
        minutes=float(given["-t"]),
        script=str(script),
        output=given["-o"],
        directory=given["--cwd"],
        words=words,
    )
    problem = world.problem(request)
    if problem:
        text = _REFUSED[problem].format(request.queue)
        print(
            f'component error: XMLRPC failure <Fault 1001: "{text}"> in queue-manager.add_jobs\n',
            file=sys.stderr,
        )
        return 1
    request = world.submit(request)
    with Path(given["--debuglog"]).open("a") as log:
        print(f"Jobid: {request.id}", file=log)
        print(f"qsub {' '.join(args)}", file=log)
        print(f"{_date(time.time())} submitted with cwd set to: {request.directory}", file=log)
    print(f'Job routed to queue "{request.queue}".\n{request.id}')
    return 0


def _write_logs(world: World) -> None:
    """Write at the end of each request how it ended."""
    for request in world.requests:
        log = Path(request.words[request.words.index("--debuglog") + 1])
        if request.ended is None or not log.exists() or "Info:" in log.read_text():
            continue
        with log.open("a") as file:
            if request.started is not None:
                print(f"COBALT_STARTTIME={int(request.started)}", file=file)
            for text in _end(request):
                print(f"{_date(request.ended)} Info: {text}", file=file)


def _end(request: Request) -> list[str]:
    done = "task completed normally with an exit code of {}; initiating job cleanup and removal"
    if request.fate == "timeout":
        return ["maximum execution time exceeded; initiating job terminiation", done.format(143)]
    if request.fate == "cancelled":
        by = "user delete requested with signal SIGTERM by user root"
        return [by] if request.started is None else [by, done.format(143)]
    return [done.format(request.code)]


def qstat(world: World, args: list[str], stdin: str) -> int:
    if args == ["--version"]:
        print("version: qstat.py $Revision: 406 $, Cobalt $Version$")
        return 0
    _write_logs(world)
    if "-Q" in args:
        header = ["Name", "Users", "MinTime", "MaxTime", "MaxRunning", "MaxQueued"]
        header += ["MaxUserNodes", "MaxNodeHours", "TotalNodes", "State"]
        _vertical(header, [_queue(each.name) for each in QUEUES])
        return 0
    names = args[args.index("--header") + 1].split(":")
    known = [each for each in world.requests if not each.forgotten and each.ended is None]
    if "-u" in args:
        _tabular(names, [[_job(world, each)[name] for name in names] for each in known])
        return 0
    ids = [int(word) for word in args if word.isdigit()]
    found = [each for each in known if each.id in ids]
    if not found:
        return 1
    _vertical(names, [[_job(world, each)[name] for name in names] for each in found])
    return 0


def _job(world: World, request: Request) -> dict[str, str]:
    word = {"queued": "queued", "held": "user_hold", "running": "running"}[request.state]
    return {
        "JobID": str(request.id),
        "JobName": request.name,
        "State": "hibernating" if world.is_strange else word,
        "Queue": request.queue,
        "Location": ",".join(request.hosts) or "None",
        "StartTime": "N/A" if request.started is None else _date(request.started),
        "OutputPath": request.output,
    }


def _queue(name: str) -> list[str]:
    each = next(queue for queue in QUEUES if queue.name == name)
    most = f"{int(each.max_minutes) // 60:02}:{int(each.max_minutes) % 60:02}:00"
    nodes = str(each.max_nodes) if each.max_nodes < NUM_NODES else "None"
    state = "running" if each.is_open else "draining"
    return [name, "None", "00:05:00", most, "10", "20", nodes, "None", "None", state]


def _vertical(header: list[str], rows: list[list[str]]) -> None:
    width = max(map(len, header)) + 1
    for row in rows:
        print(f"{header[0]}: {row[0]}")
        for name, value in zip(header[1:], row[1:], strict=True):
            print(f"    {name:<{width}}: {value}")
        print()


def _tabular(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for number, row in enumerate([header, *rows]):
        print("".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=True)))
        if not number:
            print("=" * (sum(widths) + 2 * len(widths)))


def _date(seconds: float) -> str:
    return time.strftime("%a %b %d %H:%M:%S %Y +0000 (UTC)", time.gmtime(seconds))


def qdel(world: World, args: list[str], stdin: str) -> int:
    deleted = []
    for each in args:
        request = world.get(int(each))
        if request is None or request.ended is not None:
            print(f"qdel: Job {each} not found", file=sys.stderr)
        else:
            world.end(request.id, "cancelled")
            deleted.append([each, "root"])
    _write_logs(world)
    if deleted:
        print("      Deleted Jobs")
        _tabular(["JobID", "User"], deleted)
    return 0 if deleted else 1


def nodelist(world: World, args: list[str], stdin: str) -> int:
    header = ["Node_id", "Name", "Queues", "Status", "MCDRAM", "NUMA", "Backfill"]
    queues = ":".join(each.name for each in QUEUES)
    free = world.free_hosts
    rows = [
        [str(number), name, queues, "idle" if name in free else "busy", "flat", "quad", "4:59:44"]
        for number, name in enumerate(hosts())
    ]
    rows.append(["99", "node99", "", "down", "flat", "quad", "-"])
    _tabular(header, rows)
    return 0


COMMANDS = {"qsub": qsub, "qstat": qstat, "qdel": qdel, "nodelist": nodelist}
