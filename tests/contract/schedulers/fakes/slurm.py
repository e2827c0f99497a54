"""Slurm, as 22.05.8 writes."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from tests.contract.schedulers.world import CORES, MEMORY_MIB, QUEUES, Request, World

AWAY = ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1)
SUBMIT = "sbatch"
REFUSAL = r"sbatch: .*invalid partition specified: nope"
_REFUSED = {
    "queue": "Invalid partition name specified",
    "closed": "Required partition not available (inactive or drain)",
    "nodes": "Node count specification invalid",
    "time": "Requested time limit is invalid (missing or exceeds some limit)",
}


def sbatch(world: World, args: list[str], stdin: str) -> int:
    if args == ["--version"]:
        print("slurm-wlm 22.05.8")
        return 0
    request = _request(args[-1])
    problem = world.problem(request)
    if problem == "queue":
        print(f"sbatch: error: invalid partition specified: {request.queue}", file=sys.stderr)
    if problem:
        text = f"sbatch: error: Batch job submission failed: {_REFUSED[problem]}"
        print(text, file=sys.stderr)
        return 1
    print(world.submit(request).id)
    return 0


def _request(script: str) -> Request:
    """Read the directives, each of which is ``--name=value`` or a word of the user."""
    lines = [
        line[8:] for line in Path(script).read_text().splitlines() if line.startswith("#SBATCH ")
    ]
    words = [word for line in lines for word in shlex.split(line)]
    given = {}
    for word in words:
        name, _, value = word.partition("=")
        given[name.lstrip("-")] = value
    hours, minutes, seconds = map(int, given["time"].split(":"))
    return Request(
        id=0,
        name=given["job-name"],
        queue=given.get("partition", ""),
        project=given.get("account", ""),
        nodes=int(given["nodes"]),
        minutes=hours * 60 + minutes + seconds / 60,
        script=script,
        output=given["output"].replace("%%", "%"),
        directory=given["chdir"],
        words=words,
    )


def _word(world: World, request: Request) -> str:
    if world.is_strange:
        return "HIBERNATING"
    if request.state == "ended":
        return "COMPLETED" if request.fate == "finished" else request.fate.upper()
    return {"queued": "PENDING", "held": "PENDING", "running": "RUNNING"}[request.state]


def _reason(request: Request) -> str:
    if request.state == "ended":
        return {"failed": "NonZeroExitCode", "timeout": "TimeLimit"}.get(request.fate, "None")
    return {"queued": "Resources", "held": "JobHeldUser"}.get(request.state, "None")


def _hosts(request: Request) -> str:
    count = len(request.hosts)
    return "" if not count else "node1" if count == 1 else f"node[1-{count}]"


def _seconds(time: float | None, nothing: str) -> str:
    return nothing if time is None else str(int(time))


def squeue(world: World, args: list[str], stdin: str) -> int:
    print("JOBID|STATE|REASON|PARTITION|NODELIST|START_TIME|END_TIME|EXIT_CODE|NAME|")
    name = _option(args, "--name")
    for request in world.requests:
        if request.forgotten or name not in (None, request.name):
            continue
        code = {"timeout": 15, "cancelled": 15}.get(request.fate, request.code << 8)
        fields = [
            request.id,
            _word(world, request),
            _reason(request),
            request.queue,
            _hosts(request),
        ]
        fields += [_seconds(request.started, "N/A"), _seconds(request.ended, "N/A"), code]
        print("|".join(map(str, fields)) + f"|{request.name}|")
    return 0


def sacct(world: World, args: list[str], stdin: str) -> int:
    print("JobIDRaw|State|Reason|Partition|NodeList|Start|End|ExitCode|JobName")
    name, ids = _option(args, "--name"), _option(args, "--jobs")
    for request in world.requests:
        if name not in (None, request.name) or (ids and str(request.id) not in ids.split(",")):
            continue
        word = _word(world, request)
        word += " by 1000" if word == "CANCELLED" else ""
        code = {"timeout": "0:15", "cancelled": "0:15"}.get(request.fate, f"{request.code}:0")
        fields = [request.id, word, "None", request.queue, _hosts(request) or "None assigned"]
        fields += [_seconds(request.started, "Unknown"), _seconds(request.ended, "Unknown"), code]
        print("|".join(map(str, fields)) + f"|{request.name}")
    return 0


def scancel(world: World, args: list[str], stdin: str) -> int:
    for number in args:
        if number.isdecimal():
            world.end(int(number), "cancelled")
    return 0


def scontrol(world: World, args: list[str], stdin: str) -> int:
    for each in QUEUES:
        most = each.max_nodes if each.max_nodes < world.num_nodes else "UNLIMITED"
        print(
            f"PartitionName={each.name} AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL"
            f" AllocNodes=ALL Default={'YES' if each.is_default else 'NO'} QoS=N/A"
            f" DefaultTime=00:10:00 MaxNodes={most}"
            f" MaxTime={int(each.max_minutes) // 60:02}:{int(each.max_minutes) % 60:02}:00"
            f" MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=node[1-{world.num_nodes}]"
            f" State={'UP' if each.is_open else 'DOWN'} TotalCPUs={CORES * world.num_nodes}"
            f" TotalNodes={world.num_nodes} TRES=cpu={CORES * world.num_nodes},mem=16G,node=4"
        )
    return 0


def sinfo(world: World, args: list[str], stdin: str) -> int:
    print("PARTITION|NODES|STATE|S:C:T|MEMORY|GRES")
    free = len(world.free_hosts)
    for each in QUEUES:
        for state, count in (("idle", free), ("allocated", world.num_nodes - free)):
            if count:
                print(f"{each.name}|{count}|{state}|1:{CORES}:1|{MEMORY_MIB}|gpu:a100:2(S:0-1)")
    return 0


def _option(args: list[str], name: str) -> str | None:
    found = [re.sub(r"^[^=]*=", "", word) for word in args if word.startswith(f"{name}=")]
    return found[0] if found else None


COMMANDS = {
    "sbatch": sbatch,
    "squeue": squeue,
    "sacct": sacct,
    "scancel": scancel,
    "scontrol": scontrol,
    "sinfo": sinfo,
}
