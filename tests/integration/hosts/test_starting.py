"""Commands really get to the hosts they are for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from balsam.launcher.starters import TABLE, Starter, choose
from balsam.mpi import commands
from tests.hosts import Hosts
from tests.integration.conftest import is_running, wait_until
from tests.integration.hosts.conftest import installed

#: Tells where it is by making a file, and stays.
TELL = """
import pathlib, socket, sys, time
from balsam.nodes.this_host import find_this_host
directory, *hosts = sys.argv[1:]
found = find_this_host(hosts)
pathlib.Path(directory, f"{found} on {socket.gethostname()}").touch()
while not pathlib.Path(directory, f"end {found}").exists():
    time.sleep(0.02)
"""


def on_h1(host: str) -> bool:
    return host == "h1"


def name_of(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return ""


def mpiexec(program: str) -> Starter:
    """The starter by *program*."""
    path = installed(program)
    kind = commands.TABLE["openmpi" if "openmpi" in program else "mpich"]
    return choose("mpiexec", "pbs", ["h1", "h2"], here=on_h1, find_mpi=lambda _: (kind, path))


STARTERS: dict[str, Callable[[], Starter]] = {
    "ssh": lambda: TABLE["ssh"],
    "mpich": lambda: mpiexec("mpirun.mpich"),
    "openmpi": lambda: mpiexec("mpirun.openmpi"),
}


@pytest.mark.parametrize("name", STARTERS)
def test_a_worker_gets_to_every_host(hosts: Hosts, tmp_path: Path, name: str) -> None:
    starter = STARTERS[name]()
    names = hosts.names
    command = [sys.executable, "-c", TELL, str(tmp_path), *names]
    started = [
        hosts.popen(1, line)
        for _, line in starter.words(names, command, hosts.ssh, environ={}, here=on_h1)
    ]
    expected = {f"{each} on {each}" for each in names}
    wait_until(lambda: {file.name for file in tmp_path.iterdir()} == expected)
    for each in names:
        (tmp_path / f"end {each}").touch()
    assert [process.wait(30) for process in started] == [0] * len(started)


def test_the_session_s_end_ends_what_ssh_started(hosts: Hosts, tmp_path: Path) -> None:
    ((_, line),) = TABLE["ssh"].words(("h2",), ["/bin/sleep", "600"], hosts.ssh, here=on_h1)
    client = hosts.popen(1, line, stdin=subprocess.DEVNULL)

    (pid,) = wait_until(lambda: [p for p in hosts.processes(2) if name_of(p) == "sleep"])
    parent = psutil.Process(pid).ppid()
    assert name_of(parent) == "sshd"  # no shell between
    hosts.kill_all(2)
    assert client.wait(30) == 255
    assert not is_running(pid)


def test_a_host_that_is_cut_off_is_not_reached_until_it_is_healed(hosts: Hosts) -> None:
    ssh = [*hosts.ssh, "-o", "ConnectTimeout=1"]
    hosts.cut(2)
    tried = subprocess.run(hosts.on(1, [*ssh, "h2", "hostname"]), capture_output=True, text=True)
    assert tried.returncode == 255
    assert "timed out" in tried.stderr
    assert hosts.run(1, [*ssh, "h3", "hostname"]) == "h3\n"
    hosts.heal(2)
    assert hosts.run(1, [*hosts.ssh, "h2", "hostname"]) == "h2\n"
