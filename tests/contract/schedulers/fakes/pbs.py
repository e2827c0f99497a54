"""PBS, as OpenPBS 23.06.06 writes."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

from tests.contract.schedulers.world import CORES, MEMORY_MIB, QUEUES, Request, World, hosts

AWAY = (
    "Connection refused\nqstat: cannot connect to server h1 (errno=15010)",
    15010 & 255,
)
SUBMIT = "qsub"
REFUSAL = r"qsub: Unknown queue"
_REFUSED = {
    "queue": ("qsub: Unknown queue", 15048),
    "closed": ("qsub: Queue is not enabled", 15039),
    "nodes": ("qsub: Job violates queue and/or server resource limits", 15036),
    "time": ("qsub: Job violates queue and/or server resource limits", 15036),
}
_UNKNOWN, _OVER = 15001, 15139


def qsub(world: World, args: list[str], stdin: str) -> int:
    lines = Path(args[-1]).read_text().splitlines()
    words = [
        word
        for line in lines
        if line.startswith("#PBS ")
        for word in shlex.split(line.removeprefix("#PBS "))
    ]
    given: dict[str, str] = {}
    for option, value in zip(words[::2], words[1::2], strict=True):
        name, _, rest = value.partition("=")
        given |= {f"-l {name}": rest} if option == "-l" else {option: value}
    hours, minutes, seconds = map(int, given["-l walltime"].split(":"))
    start = next(line for line in lines if line.startswith("cd "))
    request = Request(
        id=0,
        name=given["-N"],
        queue=given.get("-q", ""),
        project=given.get("-A", ""),
        nodes=int(given["-l select"].split(":")[0]),
        minutes=hours * 60 + minutes + seconds / 60,
        script=args[-1],
        output=given["-o"],
        directory=shlex.split(start)[1],
        words=words,
    )
    problem = world.problem(request)
    if problem:
        text, code = _REFUSED[problem]
        print(text, file=sys.stderr)
        return code & 255
    print(f"{world.submit(request).id}.h1")
    return 0


def qselect(world: World, args: list[str], stdin: str) -> int:
    name = args[args.index("-N") + 1]
    for request in world.requests:
        if request.name == name and ("-x" in args or request.ended is None):
            print(f"{request.id}.h1")
    return 0


def qstat(world: World, args: list[str], stdin: str) -> int:
    if args == ["--version"]:
        print("pbs_version = 23.06.06")
        return 0
    if "-B" in args:
        server = {"server_state": "Active", "server_host": "h1", "default_queue": QUEUES[0].name}
        return _show({"Server": {"h1": server}})
    if "-Q" in args:
        return _show({"Queue": {each.name: _queue(world, each.name) for each in QUEUES}})
    return _jobs(world, [word for word in args if word[0].isdigit()], "-x" in args)


def _show(members: dict[str, object]) -> int:
    head = {"timestamp": int(time.time()), "pbs_version": "23.06.06", "pbs_server": "h1"}
    print(json.dumps(head | members, indent="\t", separators=(",", ":\t")))
    return 0


def _jobs(world: World, ids: list[str], is_history: bool) -> int:
    code, jobs = 0, {}
    for each in ids:
        request = world.get(int(each.split(".")[0]))
        if request is None or (request.forgotten and not is_history):
            print(f"qstat: Unknown Job Id {each}", file=sys.stderr)
            code = _UNKNOWN
        elif request.ended is not None and not is_history:
            text = "Job has finished, use -x or -H to obtain historical job information"
            print(f"qstat: {each} {text}", file=sys.stderr)
            code = _OVER
        else:
            jobs[f"{request.id}.h1"] = _job(world, request)
    _show({"Jobs": jobs} if jobs else {})
    return code & 255


def _job(world: World, request: Request) -> dict[str, object]:
    letter = {"queued": "Q", "held": "H", "running": "R", "ended": "F"}[request.state]
    job: dict[str, object] = {
        "Job_Name": request.name,
        "Job_Owner": "root@h1",
        "job_state": "Z" if world.is_strange else letter,
        "queue": request.queue,
        "server": "h1",
        "Output_Path": f"h1:{request.output}",
        "qtime": _date(request.submitted),
        "mtime": _date(request.ended or request.started or request.submitted),
        "Resource_List": {"nodect": request.nodes, "place": "scatter:excl"},
        "Variable_List": {"PBS_O_HOME": "/home/ana", "PBS_O_QUEUE": request.queue},
    }
    comment = "Not Running: Insufficient amount of resource: ncpus"
    if request.started is not None:
        run = "+".join(f"({host}:ncpus={CORES})" for host in request.hosts)
        comment = f"Job run at {_date(request.started)[:-8]} on {run}"
        job |= {
            "exec_host": "+".join(f"{host}/0*{CORES}" for host in request.hosts),
            "stime": _date(request.started),
        }
    if request.ended is not None:
        substate, how = {
            "finished": (92, "and finished"),
            "failed": (93, "and failed"),
            "timeout": (93, "and exceeded resource walltime"),
            "cancelled": (91, "and terminated"),
        }[request.fate]
        comment = f"{comment} {how}"
        job |= {"obittime": _date(request.ended)} if request.started is not None else {}
        job |= {"history_timestamp": int(request.ended), "substate": substate}
        if request.started is not None:
            code = {"timeout": -29, "cancelled": 271}.get(request.fate, request.code)
            job |= {"Exit_status": code}
    return job | {"comment": comment}


def _date(seconds: float) -> str:
    return time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(seconds))


def _queue(world: World, name: str) -> dict[str, object]:
    each = next(queue for queue in QUEUES if queue.name == name)
    most = {"walltime": f"{int(each.max_minutes) // 60:02}:{int(each.max_minutes) % 60:02}:00"}
    nodes = {"nodect": each.max_nodes} if each.max_nodes < world.num_nodes else {}
    return {
        "queue_type": "Execution",
        "total_jobs": len(world.requests),
        "resources_max": nodes | most,
        "enabled": str(each.is_open),
        "started": "True",
    }


def qdel(world: World, args: list[str], stdin: str) -> int:
    code = 0
    for each in args:
        request = world.get(int(each.split(".")[0]))
        if request is None:
            print(f"qdel: Unknown Job Id {each}", file=sys.stderr)
            code = _UNKNOWN
        elif request.ended is not None:
            print(f"qdel: Job has finished {each}", file=sys.stderr)
            code = _OVER
        else:
            world.end(request.id, "cancelled")
    return code & 255


def pbsnodes(world: World, args: list[str], stdin: str) -> int:
    nodes = {}
    for host in hosts():
        is_free = host in world.free_hosts
        nodes[host] = {
            "Mom": host,
            "state": "free" if is_free else "job-busy",
            "resources_available": {
                "host": host,
                "mem": f"{MEMORY_MIB * 1024}kb",
                "ncpus": CORES,
                "ngpus": 2,
            },
            "resources_assigned": {} if is_free else {"ncpus": CORES},
        } | ({} if is_free else {"jobs": ["7.h1"]})
    return _show({"nodes": nodes})


COMMANDS = {
    "qsub": qsub,
    "qstat": qstat,
    "qselect": qselect,
    "qdel": qdel,
    "pbsnodes": pbsnodes,
}
