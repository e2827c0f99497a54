"""Flux, as flux-core 0.89.0 writes (its JSON: ood_core, spec/fixtures/output/flux)."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from tests.contract.schedulers.world import CORES, NUM_NODES, QUEUES, Request, World, hosts, queue

AWAY = (
    "flux-jobs: ERROR: [Errno 111] Unable to connect to Flux: ECONNREFUSED: Connection refused",
    1,
)
SUBMIT = "flux batch"
REFUSAL = r"flux: flux-batch: ERROR: \[Errno 22\] Invalid queue 'nope' specified"
_DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_REFUSED = {
    "queue": "Invalid queue '{0}' specified",
    "closed": "job submission to {0} is disabled: maintenance",
    "nodes": "requested nnodes exceeds policy limit of {1}",
    "time": "requested duration exceeds policy limit of {2}m",
}
#: Ids are large numbers.
_FIRST = 91088924704768


def number(scheduler_id: str) -> int:
    value = 0
    for character in scheduler_id.lstrip("ƒf"):
        value = value * 58 + _DIGITS.index(character)
    return value - _FIRST


def _f58(request: Request) -> str:
    value, digits = request.id + _FIRST, ""
    while value:
        value, digit = divmod(value, 58)
        digits = _DIGITS[digit] + digits
    return digits


def batch(world: World, args: list[str]) -> int:
    lines = Path(args[-1]).read_text().splitlines()
    words = [
        word
        for line in lines
        if line.startswith("# flux: ")
        for word in shlex.split(line.removeprefix("# flux: "))
    ]
    given = {
        word.partition("=")[0]: word.partition("=")[2] for word in words if word.startswith("--")
    }
    request = Request(
        id=0,
        name=given["--job-name"],
        queue=given.get("--queue", ""),
        project=given.get("--bank", ""),
        nodes=int(given["--nodes"]),
        minutes=float(given["--time-limit"].removesuffix("m")),
        script=args[-1],
        output=given["--output"],
        directory=given["--cwd"],
        words=words,
    )
    problem = world.problem(request)
    if problem:
        most = queue(request.queue)
        limits = (most.max_nodes, most.max_minutes) if most else ()
        text = _REFUSED[problem].format(request.queue, *limits)
        print(f"flux-batch: ERROR: [Errno 22] {text}", file=sys.stderr)
        return 1
    # Command sets the locale C, where the prefix is ASCII.
    print(f"f{_f58(world.submit(request))}")
    return 0


def jobs(world: World, args: list[str]) -> int:
    name = next((word[7:] for word in args if word.startswith("--name=")), None)
    ids = [word for word in args if not word.startswith("-")]
    known = {each.id: each for each in world.requests if not each.forgotten}
    missing = [each for each in ids if number(each) not in known]
    for each in missing:
        print(f"JobID {each} unknown", file=sys.stderr)
    if ids:
        found = [known[number(each)] for each in ids if each not in missing]
    else:
        found = [each for each in known.values() if each.name == name]
    if len(ids) == 1 and found:
        print(json.dumps(_job(world, found[0])))
    elif not ids or found:
        print(json.dumps({"jobs": [_job(world, each) for each in found]}))
    return 1 if missing else 0


def _job(world: World, request: Request) -> dict[str, object]:
    ended = request.state == "ended"
    word = {"queued": "SCHED", "held": "SCHED", "running": "RUN", "ended": "INACTIVE"}
    state = "HIBERNATE" if world.is_strange else word[request.state]
    job: dict[str, object] = {
        "t_depend": request.submitted,
        "duration": request.minutes * 60,
        "name": request.name,
        "cwd": request.directory,
        "queue": request.queue,
        "ntasks": request.nodes,
        "nnodes": request.nodes,
        "priority": 0 if request.state == "held" else 16,
        "id": request.id + _FIRST,
        "t_submit": request.submitted,
        "state": state,
        "urgency": 0 if request.state == "held" else 16,
        "dependencies": [],
        "jobid": f"ƒ{_f58(request)}",
        "annotations": {},
        "exception": {"occurred": False},
    }
    if request.started is not None:
        job |= {"t_run": request.started, "nodelist": f"node[1-{len(request.hosts)}]"}
        job |= {"annotations": {"sched": {"selection_type": "immediate"}}}
    if ended:
        result = {"finished": "COMPLETED", "cancelled": "CANCELED"}
        job |= {
            "t_inactive": request.ended,
            "result": result.get(request.fate, request.fate.upper()),
            "returncode": {"cancelled": 143, "timeout": 142}.get(request.fate, request.code),
        }
        if request.fate in ("cancelled", "timeout"):
            kind = request.fate.replace("led", "l")
            note = "resource allocation expired" if kind == "timeout" else ""
            job |= {"exception": {"occurred": True, "severity": 0, "type": kind, "note": note}}
    return job


def cancel(world: World, args: list[str]) -> int:
    code = 0
    for each in args:
        found = world.get(number(each))
        if found is None or found.ended is not None:
            why = "unknown job id" if found is None else "job is inactive"
            print(f"flux-cancel: ERROR: {each}: {why}", file=sys.stderr)
            code = 1
        else:
            world.end(found.id, "cancelled")
    return code


def queues(world: World, args: list[str]) -> int:
    form = next(word[9:] for word in args if word.startswith("--format="))
    for each in QUEUES:
        most = each.max_nodes if each.max_nodes < NUM_NODES else "inf"
        values = {
            "{queuem}": f"{each.name}*" if each.is_default else each.name,
            "{submission}": "enabled" if each.is_open else "disabled",
            "{scheduling}": "started",
            "{limits.timelimit}": each.max_minutes * 60.0,
            "{limits.min.nnodes}": 0,
            "{limits.max.nnodes}": most,
        }
        line = form
        for field, value in values.items():
            line = line.replace(field, str(value))
        print(line)
    return 0


def resource(world: World, args: list[str]) -> int:
    names = world.free_hosts if "--states=free" in args else hosts()
    ranks = ",".join(str(hosts().index(name)) for name in names)
    group = {"rank": ranks, "children": {"core": f"0-{CORES - 1}", "gpu": "0-1"}}
    execution = {"R_lite": [group] if names else [], "nodelist": names, "starttime": 0.0}
    print(json.dumps({"version": 1, "execution": execution}))
    return 0


def flux(world: World, args: list[str], stdin: str) -> int:
    if args == ["getattr", "size"]:
        print(NUM_NODES)
        return 0
    verbs = {"batch": batch, "jobs": jobs, "cancel": cancel, "queue": queues, "resource": resource}
    return verbs[args[0]](world, args[1:])


COMMANDS = {"flux": flux}
