"""How workers get to their nodes: one table.

A *starter* is a command of the system that starts programs on other hosts. Some start all
workers with one command, some one worker each. They differ in what goes with the program:
a worker therefore takes nothing from their environment but what the interpreter needs to
start, and has the rest from its invitation, a file that all hosts see.

Sources: ssh(1) of OpenSSH 9.2; srun(1) of Slurm 22.05; mpiexec of MPICH 4 (Hydra) and Intel MPI
2021; mpirun(1) of Open MPI 4.1 and 5.0; the user guides of ALCF for mpiexec of PALS; pbs_tmrsh(8)
of OpenPBS 23 and pbsdsh(1) of Torque 6; flux-exec(1), flux-overlay(1) of Flux 0.70; jsrun(1) of
IBM JSM 10.4; blaunch(1) of LSF 10.1; qrsh(1) of Grid Engine 8.1; aprun(1) of ALPS 6.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from balsam.errors import InvalidInput, nearest
from balsam.mpi.commands import MpiCommand
from balsam.mpi.find import find
from balsam.nodes.this_host import is_this_host

#: What the interpreter and its libraries are found by.
INTERPRETER_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")


class Line(NamedTuple):
    """What one start command is to do."""

    program: str  #: path or name of the starter's program
    hosts: tuple[str, ...]  #: one worker on each
    command: list[str]  #: what starts a worker
    ssh: list[str]  #: the ssh command with its options


class Starter(NamedTuple):
    """One way to start workers on nodes."""

    name: str
    programs: tuple[str, ...]  #: any of these in PATH, the first there is
    one_command: bool  #: all workers by one command; else one command a host
    carries_environ: bool  #: the command's environment goes with the program
    line: Callable[[Line], list[str]]
    program: str = ""  #: the one that was found

    def words(
        self,
        hosts: Sequence[str],
        command: Sequence[str],
        ssh: Sequence[str] = ("ssh",),
        *,
        environ: Mapping[str, str] = os.environ,
        here: Callable[[str], bool] = is_this_host,
    ) -> list[tuple[tuple[str, ...], list[str]]]:
        """Return the commands that start *command* on each of *hosts*, each with its hosts.

        On this machine *command* is started as it is, unless one command starts it on others
        too. Nothing of *environ* but `INTERPRETER_VARIABLES` is put into the words.
        """
        there = list(command) if self.carries_environ else [*_interpreter(environ), *command]
        if self.one_command and not all(map(here, hosts)):
            given = tuple(hosts)
            return [(given, self.line(Line(self.program, given, there, list(ssh))))]
        return [
            (
                (host,),
                list(command)
                if here(host)
                else self.line(Line(self.program, (host,), there, list(ssh))),
            )
            for host in hosts
        ]


def _interpreter(environ: Mapping[str, str]) -> list[str]:
    given = [f"{name}={environ[name]}" for name in INTERPRETER_VARIABLES if environ.get(name)]
    return ["/usr/bin/env", *given] if given else []


def _plain(line: Line) -> list[str]:
    raise InvalidInput(
        f"nodes.start is 'plain', which starts a worker on this machine only, and {line.hosts[0]}"
        " is another; set it to 'auto' or 'ssh', or give --nodes only this machine"
    )


def _ssh(line: Line) -> list[str]:
    (host,) = line.hosts
    # First comes what the user has set: ssh takes the first value of an option that it sees.
    options = ["-x", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"]
    # The far shell becomes the worker, which then sees the end of its session.
    return [*line.ssh, *options, host, f"exec {shlex.join(line.command)}"]


def _srun(line: Line) -> list[str]:
    count = len(line.hosts)
    return [
        line.program,
        *(f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1"),
        f"--nodelist={','.join(line.hosts)}",
        # It stands beside the steps of the jobs, and sees all that the allocation has.
        *("--overlap", "--mem=0", "--cpu-bind=none", "--mpi=none"),
        # The others go on when one worker, or its node, is lost.
        *("--no-kill", "--kill-on-bad-exit=0", "--wait=0"),
        *("--export=ALL", "--input=none"),
        *line.command,
    ]


def _mpich(line: Line) -> list[str]:
    words = [line.program, "-n", str(len(line.hosts)), "-ppn", "1", "-hosts", ",".join(line.hosts)]
    launcher, *options = line.ssh
    words += ["-launcher", "ssh", "-launcher-exec", shutil.which(launcher) or launcher]
    words += ["-bind-to", "none", "-disable-auto-cleanup", *line.command]
    # Hydra splits this at spaces, whatever quotes there are.
    extra = [f"HYDRA_LAUNCHER_EXTRA_ARGS={' '.join(options)}"] if options else []
    return ["/usr/bin/env", *extra, *words] if extra else words


def _intel(line: Line) -> list[str]:
    words = [line.program, "-n", str(len(line.hosts)), "-ppn", "1", "-hosts", ",".join(line.hosts)]
    return [*words, "-genv", "I_MPI_PIN", "0", *line.command]


def _openmpi(line: Line) -> list[str]:
    hosts = ",".join(f"{host}:1" for host in line.hosts)
    words = [line.program, "-n", str(len(line.hosts)), "--host", hosts]
    words += ["--map-by", "ppr:1:node", "--bind-to", "none", "--oversubscribe"]
    if os.geteuid() == 0:
        words.append("--allow-run-as-root")
    # By variables, which Open MPI 4 and 5 take both: 5 has other options for its daemons.
    agent = shlex.join(line.ssh)
    daemons = [f"OMPI_MCA_plm_rsh_agent={agent}", f"PRTE_MCA_plm_ssh_agent={agent}"]
    on = ["OMPI_MCA_orte_abort_on_non_zero_status=0", "OMPI_MCA_orte_enable_recovery=1"]
    return ["/usr/bin/env", *daemons, *on, *words, *line.command]


def _pals(line: Line) -> list[str]:
    count = str(len(line.hosts))
    hosts = ",".join(line.hosts)
    words = [line.program, "-n", count, "--ppn", "1", "--hosts", hosts, "--cpu-bind", "none"]
    return [*words, *line.command]


def _pbsdsh(line: Line) -> list[str]:
    (host,) = line.hosts
    # That of Torque takes names of hosts; of PBS it is pbs_tmrsh that does.
    named = ["-h", host] if os.path.basename(line.program) == "pbsdsh" else [host]
    return [line.program, *named, *line.command]


def _flux(line: Line) -> list[str]:
    # Not `flux run`: workers must not take the resources that the jobs' own runs ask for.
    script = 'ranks=$("$0" overlay lookup "$1") && shift && exec "$0" exec -n -r "$ranks" "$@"'
    return ["/bin/sh", "-c", script, line.program, ",".join(line.hosts), *line.command]


def _jsrun(line: Line) -> list[str]:
    count = str(len(line.hosts))
    one_each = ["--nrs", count, "--rs_per_host", "1", "--tasks_per_rs", "1", "--cpu_per_rs", "1"]
    return [line.program, *one_each, "--bind", "none", "--smpiargs", "off", *line.command]


def _blaunch(line: Line) -> list[str]:
    return [line.program, "-n", "-no-shell", *line.hosts, *line.command]


def _qrsh(line: Line) -> list[str]:
    return [line.program, "-inherit", "-nostdin", *line.hosts, *line.command]


def _aprun(line: Line) -> list[str]:
    numbers = ",".join(host.removeprefix("nid").lstrip("0") or "0" for host in line.hosts)
    words = [line.program, "-q", "-n", str(len(line.hosts)), "-N", "1", "-L", numbers]
    return [*words, "-cc", "none", "-b", *line.command]


TABLE: dict[str, Starter] = {
    starter.name: starter
    for starter in (
        Starter("plain", (), False, True, _plain),
        Starter("ssh", (), False, False, _ssh),
        Starter("srun", ("srun",), True, True, _srun),
        Starter("mpiexec", (), True, True, _mpich),
        Starter("pbsdsh", ("pbs_tmrsh", "pbsdsh"), False, False, _pbsdsh),
        Starter("flux", ("flux",), True, True, _flux),
        Starter("jsrun", ("jsrun",), True, True, _jsrun),
        Starter("blaunch", ("blaunch",), False, True, _blaunch),
        Starter("qrsh", ("qrsh",), False, False, _qrsh),
        Starter("aprun", ("aprun",), True, True, _aprun),
    )
}

#: What `mpiexec` is, by the name of its MPI in the table of `balsam.mpi`.
MPI: dict[str, Starter] = {
    "mpich": Starter("mpiexec", (), True, True, _mpich),
    "intel": Starter("mpiexec", (), True, True, _intel),
    "openmpi": Starter("mpiexec", (), True, False, _openmpi),
    "pals": Starter("mpiexec", (), True, True, _pals),
}

#: What belongs to an allocation, by where it is from; the first whose program is there.
_OF_SOURCE: dict[str, tuple[str, ...]] = {
    "slurm": ("srun",),
    "pbs": ("pbsdsh",),
    "flux": ("flux",),
    "lsf": ("jsrun", "blaunch"),
    "cobalt": ("aprun",),
    "sge": ("qrsh",),
}

Which = Callable[[str], str | None]
FindMpi = Callable[[str], tuple[MpiCommand, str]]


def check_name(name: str) -> None:
    """Raise `InvalidInput` unless *name* is 'auto' or in the table."""
    if name != "auto" and name not in TABLE:
        known = ["auto", *TABLE]
        raise InvalidInput(
            f"nodes.start is {name!r}; known are {', '.join(known)}.{nearest(name, known)}"
        )


def choose(
    name: str,
    source: str,
    hosts: Sequence[str],
    *,
    here: Callable[[str], bool] = is_this_host,
    which: Which = shutil.which,
    find_mpi: FindMpi = find,
) -> Starter:
    """Return what starts the workers of *hosts*.

    Parameters
    ----------
    name
        The setting `nodes.start`, or a profile's; 'auto' for plain where all *hosts* are this
        machine, else what belongs to the allocation and is there, else ssh.
    source
        Where the allocation is from: slurm, pbs, …

    Raises
    ------
    InvalidInput
        It is not known, its program is not in PATH, or it cannot reach all hosts.
    CannotStart
        No mpiexec is found.
    """
    check_name(name)
    if name == "auto":
        if all(map(here, hosts)):
            return TABLE["plain"]
        named = [TABLE[each] for each in _OF_SOURCE.get(source, ())]
        found = [each for each in (_found(starter, which) for starter in named) if each]
        return found[0] if found else TABLE["ssh"]
    if name == "mpiexec":
        command, program = find_mpi("auto")
        if command.name not in MPI:
            raise InvalidInput(
                f"nodes.start is 'mpiexec', and {program} is {command.name}, by which no workers"
                f" are started; set it to 'auto', 'ssh' or {command.name!r}"
            )
        return MPI[command.name]._replace(program=program)
    starter = TABLE[name]
    if name == "plain":
        for host in hosts:
            if not here(host):
                _plain(Line("", (host,), [], []))
    elif starter.programs:
        there = _found(starter, which)
        if there is None:
            raise InvalidInput(
                f"nodes.start is {name!r}, and {' or '.join(starter.programs)} is not in PATH;"
                " load its module, or set it to 'auto' or 'ssh'"
            )
        return there
    return starter


def _found(starter: Starter, which: Which) -> Starter | None:
    for word in starter.programs:
        if program := which(word):
            return starter._replace(program=program)
    return None
