"""Grid Engine, as 8.1.9 writes."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from xml.sax.saxutils import escape

from tests.contract.schedulers.world import CORES, MEMORY_MIB, QUEUES, Request, World, hosts, queue

_NOBODY = 'unable to send message to qmaster using port 6444 on host "head": got send error'
AWAY = (f"error: commlib error: got select error (Connection refused)\nerror: {_NOBODY}", 1)
SUBMIT = "qsub"
REFUSAL = r'qsub: .*Job was rejected because job requests unknown queue "nope"'
_XSD = "http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas"


def qsub(world: World, args: list[str], stdin: str) -> int:
    request = _request(args[-1])
    problem = world.problem(request)
    if problem == "queue":
        text = f'Job was rejected because job requests unknown queue "{request.queue}"'
        print(f"Unable to run job: {text}\nExiting.", file=sys.stderr)
        return 1
    words = args[:-1]
    if "-pe" in words:
        slots = int(words[words.index("-pe") + 2])
        request.nodes = -(-slots // CORES)
    print(world.submit(request).id)
    return 0


def _request(script: str) -> Request:
    """Read the lines ``#$ -option value``, and where else its output goes."""
    request = Request(id=0, script=script)
    for line in Path(script).read_text().splitlines():
        if line.startswith("exec >>"):
            request.output = shlex.split(line[7:])[0]
        elif line.startswith("cd "):
            request.directory = shlex.split(line)[1]
        if not line.startswith("#$ "):
            continue
        words = shlex.split(line[3:])
        request.words += words
        option, value = words[0], words[-1]
        if option == "-N":
            request.name = value
        elif option == "-o":
            request.output = value
        elif option == "-wd":
            request.directory = value
        elif option == "-q":
            request.queue = value
        elif option == "-P":
            request.project = value
        elif option == "-l" and value.startswith("h_rt="):
            hours, minutes, seconds = map(int, value[5:].split(":"))
            request.minutes = hours * 60 + minutes + seconds / 60
    return request


def qstat(world: World, args: list[str], stdin: str) -> int:
    if "-help" in args:
        print("SGE 8.1.9\nusage: qstat [options]\n        [-ext]     view additional attributes")
        return 0
    if "-j" in args:
        return _reasons(world, args[args.index("-j") + 1].split(","))
    zombies = "-s" in args and args[args.index("-s") + 1] == "z"
    shown = [request for request in world.requests if (request.state == "ended") == zombies]
    print("<?xml version='1.0'?>")
    print(f'<job_info  xmlns:xsd="{_XSD}/qstat/qstat.xsd">\n  <queue_info>')
    for request in shown:
        if request.state == "running":
            _print_job(world, request)
    print("  </queue_info>\n  <job_info>")
    for request in shown:
        if request.state != "running":
            _print_job(world, request)
    print("  </job_info>\n</job_info>")
    return 0


def _print_job(world: World, request: Request) -> None:
    word = {"queued": "qw", "held": "hqw", "running": "r", "ended": "z"}[request.state]
    if world.is_strange:
        word = "Y"
    state = "running" if request.state == "running" else "pending"
    tag, moment = "JB_submission_time", request.submitted
    if request.started is not None:
        tag, moment = "JAT_start_time", request.started
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment))
    where = f"{request.queue}@{request.hosts[0]}" if request.state == "running" else ""
    print(
        f"""    <job_list state="{state}">
      <JB_job_number>{request.id}</JB_job_number>
      <JAT_prio>0.50000</JAT_prio>
      <JB_name>{escape(request.name)}</JB_name>
      <JB_owner>ana</JB_owner>
      <state>{word}</state>
      <{tag}>{local}</{tag}>
      <queue_name>{where}</queue_name>
      <slots>{request.nodes * CORES}</slots>
    </job_list>"""
    )


def _reasons(world: World, ids: list[str]) -> int:
    print("<?xml version='1.0'?>")
    print(f'<detailed_job_info  xmlns:xsd="{_XSD}/qstat/detailed_job_info.xsd">\n  <djob_info>')
    for number in ids:
        if world.get(int(number)):
            print(f"    <element>\n      <JB_job_number>{number}</JB_job_number>\n    </element>")
    print(
        """  </djob_info>
  <messages>
    <element>
      <SME_global_message_list>
        <element>
          <MES_message_number>28</MES_message_number>
          <MES_message>All queues dropped because of overload or full</MES_message>
        </element>
      </SME_global_message_list>
    </element>
  </messages>
</detailed_job_info>"""
    )
    return 0


def qacct(world: World, args: list[str], stdin: str) -> int:
    wanted = args[args.index("-j") + 1]
    found = [
        request
        for request in world.requests
        if wanted in (str(request.id), request.name) and request.started and request.ended
    ]
    if not found:
        what = "id" if wanted.isdecimal() else "name"
        print(f"error: job {what} {wanted} not found", file=sys.stderr)
        return 1
    for request in found:
        started, ended = (time.ctime(each) for each in (request.started, request.ended))
        failed, code = {
            "timeout": ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137  (Killed)"),
            "cancelled": ("100 : assumedly after job", "137                  (Killed)"),
        }.get(request.fate, ("0    ", str(request.code)))
        print("=" * 62)
        for name, value in {
            "qname": request.queue,
            "hostname": request.hosts[0],
            "owner": "ana",
            "jobname": request.name,
            "jobnumber": request.id,
            "taskid": "undefined",
            "account": "sge",
            "qsub_time": time.ctime(request.submitted),
            "start_time": started,
            "end_time": ended,
            "granted_pe": "whole",
            "slots": request.nodes * CORES,
            "failed": failed,
            "exit_status": code,
            "ru_wallclock": "0s",
        }.items():
            print(f"{name:<12} {value}")
    return 0


def qdel(world: World, args: list[str], stdin: str) -> int:
    code = 0
    for word in args:
        request = world.get(int(word))
        if request is None or request.state == "ended":
            print(f'denied: job "{word}" does not exist')
            code = 1
        else:
            world.end(request.id, "cancelled")
            print(f"ana has registered the job {word} for deletion")
    return code


def qconf(world: World, args: list[str], stdin: str) -> int:
    what, name = args
    if what == "-sp":
        rule = {"whole": CORES, "smp": "$pe_slots"}[name]
        print(f"pe_name            {name}\nslots              999\nallocation_rule    {rule}")
        return 0
    if name != "*" and queue(name) is None:
        print(f'No cluster queue or queue instance matches "{name}" found', file=sys.stderr)
        return 1
    shown = [each for each in QUEUES if name in ("*", each.name)]
    for number, each in enumerate(shown):
        limit = f"{int(each.max_minutes) // 60:02}:{int(each.max_minutes) % 60:02}:00"
        print("\n" if number else "", end="")
        print(f"qname                 {each.name}\nhostlist              @allhosts")
        print(f"pe_list               smp whole\nslots                 {CORES},[old=2]")
        print(f"s_rt                  INFINITY\nh_rt                  {limit}")
    return 0


def qhost(world: World, args: list[str], stdin: str) -> int:
    print(f"<?xml version='1.0'?>\n<qhost xmlns:xsd=\"{_XSD}/qhost/qhost.xsd\">")
    for host in ("global", *hosts()):
        known = host != "global"
        values = {"num_proc": CORES * 2, "m_core": CORES, "mem_total": f"{MEMORY_MIB / 1024:.1f}G"}
        print(f" <host name='{host}'>")
        for name, value in values.items():
            print(f"   <hostvalue name='{name}'>{value if known else '-'}</hostvalue>")
        for each in QUEUES if known else ():
            used = 0 if host in world.free_hosts else CORES
            print(f" <queue name='{each.name}'>")
            for name, value in {
                "qtype_string": "BIP",
                "slots_used": used,
                "slots": CORES,
                "slots_resv": 0,
                "state_string": "" if each.is_open else "d",
            }.items():
                print(f"   <queuevalue qname='{each.name}' name='{name}'>{value}</queuevalue>")
            print(" </queue>")
        print(" </host>")
    print("</qhost>")
    return 0


COMMANDS = {
    "qsub": qsub,
    "qstat": qstat,
    "qacct": qacct,
    "qdel": qdel,
    "qconf": qconf,
    "qhost": qhost,
}
