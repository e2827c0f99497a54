"""The files of a small Slurm of its own, which starts jobs and gives them up at once."""

from __future__ import annotations

import os
from pathlib import Path

#: MiB of each host, whatever this machine has.
MEMORY = 4096

# Of what is unusual:
# - config_overrides: hosts have more CPUs and memory than this machine.
# - linuxproc: the hosts share the control groups of this machine, and containers have none.
# - Contain: each job has a step "extern" besides its own, as on most machines.
# - TmpFS, SlurmdSpoolDir: the hosts share all files, and `srun --mpi=pmix` keeps some in TmpFS.
# - EnforcePartLimits: else what can never start is taken, and waits.
# - DefMemPerCPU: else each step takes all memory of its nodes, and the next has to wait.
# - PropagateResourceLimits: root in a container may not raise the limits of whoever submits.
# - ReturnToService: a host that was taken for lost is back when it answers.
# - SlurmdTimeout: hosts are asked every few seconds what runs on them.
_CONF = """\
ClusterName=test
SlurmctldHost=h1({controller})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={path}/munge.socket
StateSaveLocation={path}/state
SlurmdSpoolDir={path}/spool.%n
TmpFS={path}/spool.%n
SlurmctldPidFile={path}/slurmctld.pid
SlurmdPidFile={path}/slurmd.%n.pid
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
PrologFlags=Contain
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU={memory_per_cpu}
EnforcePartLimits=ALL
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=20
KillWait=3
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=5,sched_min_interval=0
{accounts}
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 State=UP
PartitionName=batch Nodes=ALL MaxTime=1-0 DefaultTime=60 State=UP
{more}
"""
# Slurm does not take the socket of AuthInfo for its way to slurmdbd.
_ACCOUNTS = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePass={path}/munge.socket
"""
_SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={path}/munge.socket
DbdHost=localhost
SlurmUser=root
PidFile={path}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""


def write(
    path: Path, addresses: list[str], cpus: int, gpus: int, has_accounts: bool, more: str
) -> None:
    """Write slurm.conf, and all that it needs, into a folder."""
    for folder in ("state", *(f"spool.h{n}" for n in range(1, len(addresses) + 1))):
        (path / folder).mkdir()
    key = path / "munge.key-file"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    lines = [
        f"NodeName=h{number} NodeAddr={address} CPUs={cpus} RealMemory={MEMORY}"
        for number, address in enumerate(addresses, 1)
    ]
    if gpus:
        lines = ["GresTypes=gpu", *(f"{line} Gres=gpu:{gpus}" for line in lines)]
        (path / "gres.conf").write_text(_gpus(path, gpus))
    if has_accounts:
        file = path / "slurmdbd.conf"
        file.write_text(_SLURMDBD.format(path=path))
        file.chmod(0o600)  # it refuses one that others can read
    conf = _CONF.format(
        path=path,
        controller=addresses[0],
        memory_per_cpu=MEMORY // cpus // 2,
        accounts=_ACCOUNTS.format(path=path) if has_accounts else "",
        nodes="\n".join(lines),
        more=more,
    )
    (path / "slurm.conf").write_text(conf)


def _gpus(path: Path, count: int) -> str:
    """Make devices that do nothing: Slurm counts them and sets CUDA_VISIBLE_DEVICES."""
    null = os.stat("/dev/null")
    for number in range(count):
        os.mknod(path / f"nvidia{number}", null.st_mode, null.st_rdev)
    return "".join(f"Name=gpu File={path}/nvidia{number}\n" for number in range(count))
