"""Which hosts this process may use: those that a batch system, or the user, gave it.

Sources: the environment as sbatch(1) of Slurm 22.05, qsub(1B) of OpenPBS 23, bsub of LSF 10.1,
flux-hostlist(1) and flux-broker-attributes(7) of flux-core 0.60, Cobalt 1.0 at ALCF and qsub(1),
sge_pe(5) of Grid Engine 8.1 describe it.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from balsam.errors import InvalidInput
from balsam.nodes.hostlist import check_host, expand

#: How long Flux may take to tell the hosts of its instance.
FLUX_SECONDS = 60.0
THIS_MACHINE = "this machine"


class Allocation(msgspec.Struct, frozen=True):
    """The hosts of one launcher, each once, in the batch system's order."""

    hosts: tuple[str, ...]
    #: Who gave them: slurm, pbs, lsf, flux, cobalt, sge, or 'this machine' when nobody did.
    source: str

    @property
    def is_batch(self) -> bool:
        """Whether a batch system gave the hosts."""
        return self.source != THIS_MACHINE


def discover(
    environ: Mapping[str, str] = os.environ, *, batch_host_apart: bool = False
) -> Allocation:
    """Return the hosts of the allocation that this process runs in, or this machine alone.

    Of batch systems within one another the inner one counts: Flux, then the others.

    Parameters
    ----------
    batch_host_apart
        The first host of LSF runs only the batch script (where jobs are started by jsrun).

    Raises
    ------
    InvalidInput
        The environment tells of an allocation, and its hosts cannot be read.
    """
    for source, variables, read in _SOURCES:
        for variable in variables:
            if environ.get(variable):
                hosts = read(environ, variable)
                if source == "lsf" and batch_host_apart and len(hosts) > 1:
                    hosts = hosts[1:]
                if not hosts:
                    raise InvalidInput(f"{variable} names no host; give them with --nodes")
                return Allocation(hosts, source)
    return Allocation((socket.gethostname(),), THIS_MACHINE)


def parse_hosts(text: str) -> tuple[str, ...]:
    """Return the hosts that ``--nodes`` names: ``h1,h[3-5]``, or the path of a host file.

    A host file has one host, or one list in brackets, a line; what follows a '#', and the slots
    that MPI commands want (``host slots=4``, ``host:4``), are passed over.

    Raises
    ------
    InvalidInput
        The file cannot be read, something in it is no host, or there is none.
    """
    if "/" not in text and not os.path.isfile(text):
        hosts = _once(expand(text))
    else:
        hosts = _once(host for line in _lines(text) for host in expand(_host(line)))
    if not hosts:
        raise InvalidInput(f"there is no host in {text!r}; write one a line")
    return hosts


def select(hosts: Sequence[str], limit: int | None = None, offset: int = 0) -> tuple[str, ...]:
    """Return at most *limit* of *hosts* (None: all), without the first *offset*.

    Raises
    ------
    InvalidInput
        None would be left.
    """
    if limit is not None and limit < 1:
        raise InvalidInput(f"--limit-nodes is {limit}; give 1 or more")
    if not 0 <= offset < len(hosts):
        raise InvalidInput(
            f"--offset-nodes is {offset}; of the {len(hosts)} nodes of this allocation none is"
            " left; give 0 or more, and less than there are"
        )
    return tuple(hosts[offset:]) if limit is None else tuple(hosts[offset : offset + limit])


def _once(hosts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(hosts))


def _lines(path: str) -> list[str]:
    """Return the lines of a host file that say something, without comments."""
    try:
        text = Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidInput(f"cannot read the host file {path}: {reason}") from error
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _host(line: str) -> str:
    """Return what names hosts in a line of a host file."""
    return re.sub(r":[0-9]+$", "", line.split()[0])


# each batch system -------------------------------------------------------------------------


def _list(environ: Mapping[str, str], variable: str) -> tuple[str, ...]:
    try:
        return _once(expand(environ[variable]))
    except InvalidInput as error:
        raise InvalidInput(f"{variable}: {error}; give the hosts with --nodes") from error


def _file(environ: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """Read a file with a host at the beginning of each line, once for each slot or not."""
    file = environ[variable]
    try:
        return _once(check_host(_host(line)) for line in _lines(file))
    except InvalidInput as error:
        raise InvalidInput(f"{variable}: {error}; give the hosts with --nodes") from error


def _words(environ: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """Read ``h1 h1 h2``, or ``h1 4 h2 4``."""
    words = environ[variable].split()
    if variable == "LSB_MCPU_HOSTS":
        if len(words) % 2 or not all(count.isdecimal() for count in words[1::2]):
            raise InvalidInput(
                f"LSB_MCPU_HOSTS is {environ[variable]!r}, not hosts with their counts of CPUs;"
                " give the hosts with --nodes"
            )
        words = words[::2]
    return _once(map(check_host, words))


def _cobalt_numbers(environ: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """Read the numbers of Cray nodes, ``1-3,7``."""
    hosts = _list({variable: f"[{environ[variable]}]"}, variable)
    return tuple(f"nid{number.zfill(5)}" for number in hosts)


def _this_host(environ: Mapping[str, str], variable: str) -> tuple[str, ...]:
    return (socket.gethostname(),)


def _flux(environ: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """Ask Flux, which has its hosts nowhere in the environment.

    ``flux hostlist`` came with flux-core 0.60; before it, an instance has its hosts as an
    attribute, and a job in it as what ``flux jobs`` tells.
    """
    job = environ.get("FLUX_JOB_ID")
    older = ["jobs", "-no", "{nodelist}", job] if job else ["getattr", "hostlist"]
    reasons = []
    for words in (["hostlist", "local"], older):
        try:
            answer = subprocess.run(
                ["flux", *words],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=FLUX_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InvalidInput(
                f"this is an instance of Flux ({variable}), and flux cannot be asked for its hosts"
                f" ({error}); give them with --nodes"
            ) from error
        if answer.returncode == 0 and answer.stdout.strip():
            return _list({variable: answer.stdout.strip()}, variable)
        reasons.append(" ".join(answer.stderr.split()) or f"exit code {answer.returncode}")
    raise InvalidInput(
        f"this is an instance of Flux ({variable}), and `flux {' '.join(older)}` told no hosts"
        f" ({reasons[-1]}); give them with --nodes"
    )


_Read = Callable[[Mapping[str, str], str], tuple[str, ...]]
#: (batch system, variables that tell of it, the better ones first, what reads them)
_SOURCES: tuple[tuple[str, tuple[str, ...], _Read], ...] = (
    ("flux", ("FLUX_JOB_ID", "FLUX_URI"), _flux),
    ("slurm", ("SLURM_JOB_NODELIST", "SLURM_NODELIST"), _list),
    ("cobalt", ("COBALT_NODEFILE",), _file),
    ("cobalt", ("COBALT_PARTNAME",), _cobalt_numbers),
    ("pbs", ("PBS_NODEFILE",), _file),
    ("lsf", ("LSB_DJOB_HOSTFILE",), _file),
    ("lsf", ("LSB_MCPU_HOSTS", "LSB_HOSTS"), _words),
    ("sge", ("PE_HOSTFILE",), _file),
    ("sge", ("SGE_TASK_ID",), _this_host),
)

#: Variables with the id of the allocation, the innermost system first.
_IDS = (
    *("FLUX_ENCLOSING_ID", "SLURM_JOB_ID", "COBALT_JOBID", "PBS_JOBID", "LSB_JOBID"),
    *("BALSAM_LOCAL_REQUEST", "JOB_ID"),
)


def scheduler_id(environ: Mapping[str, str]) -> str:
    """Return the batch system's id of the allocation that this process runs in, or ''.

    Grid Engine's ``JOB_ID`` counts only beside ``SGE_TASK_ID``: others use that name too. Balsam's
    own batch system gives the path of a request, which ends in its id.
    """
    names = [name for name in _IDS if name != "JOB_ID" or "SGE_TASK_ID" in environ]
    found = next((environ[name] for name in names if environ.get(name)), "")
    return found.rpartition("/")[2]
