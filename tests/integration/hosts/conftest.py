"""Campaigns on four hosts: the launcher runs on the first, and reaches the others by ssh."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator

import psutil
import pytest

from balsam.settings_file import template
from tests.hosts import Hosts, require
from tests.integration.conftest import Campaign, Launcher, Start, wait_until

#: What each host is told to have.
CORES, GPUS, MEMORY_MIB = 4, 2, 8000


def installed(program: str) -> str:
    """Return the path of a program; in continuous integration it must be there."""
    if path := shutil.which(program):
        return path
    reason = f"{program} is not in PATH (tools/install-test-needs installs it)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def all_hosts() -> Iterator[Hosts]:
    require()
    hosts = Hosts(4)
    yield hosts
    hosts.close()


@pytest.fixture
def hosts(all_hosts: Hosts) -> Iterator[Hosts]:
    """Four hosts that all reach each other; nothing may be left on them."""
    yield all_hosts
    all_hosts.heal_all()
    try:
        all_hosts.wait_until_empty()
    finally:
        for number in range(1, len(all_hosts.names) + 1):
            all_hosts.kill_all(number)


@pytest.fixture
def database() -> str:
    """The hosts see no server's port; that all is the same on both is tested elsewhere."""
    return "sqlite"


@pytest.fixture
def words_there(hosts: Hosts) -> Callable[[list[str]], list[str]]:
    """Returns the words that run others where launchers are started: on the first host."""
    return lambda words: hosts.on(1, words)


class Pilot:
    """A launcher on several hosts, and its workers."""

    def __init__(self, launcher: Launcher, hosts: Hosts) -> None:
        self.launcher = launcher
        self._hosts = hosts

    def workers(self, number: int) -> list[psutil.Process]:
        """The guardian of a host's worker, and the worker's processes, in this order."""
        found = [p for p in map(_process, self._hosts.processes(number)) if p and _is_worker(p)]
        pids = {process.pid for process in found}
        return sorted(found, key=lambda process: process.ppid() in pids)

    def guardian(self, number: int) -> psutil.Process:
        found: list[psutil.Process] = wait_until(
            lambda: len(there := self.workers(number)) > 1 and there, lambda: self.launcher.output
        )
        return found[0]

    def worker(self, number: int) -> psutil.Process:
        self.guardian(number)
        return self.workers(number)[1]

    def programs(self, number: int) -> dict[int, str]:
        """Return what runs on a host for the jobs, and the words of each."""
        found = {}
        for process in map(_process, self._hosts.processes(number)):
            try:
                if process and not _is_worker(process) and process.name() not in _WAYS_HERE:
                    found[process.pid] = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
        return found


#: What is on a host for the sake of its worker, and on the first of the launcher.
_WAYS_HERE = ("sshd", "ssh", "balsam")


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "balsam.launcher.worker" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


StartPilot = Callable[..., Pilot]


@pytest.fixture
def pilot(campaign: Campaign, hosts: Hosts, start: Start) -> StartPilot:
    """Start a launcher on all hosts, with *settings*, `table.name`, besides those of hosts."""

    def pilot(*args: object, settings: dict[str, object] | None = None) -> Pilot:
        given: dict[str, object] = {
            "nodes.start": "ssh",
            "nodes.ssh": shlex.join(hosts.ssh),
            "nodes.cores": CORES,
            "nodes.gpus": GPUS,
            "nodes.memory_mib": MEMORY_MIB,
            "mpi.command": "mpich",
        }
        (campaign.site / "balsam.toml").write_text(template(given | (settings or {})))
        return Pilot(start("--nodes", ",".join(hosts.names), *args), hosts)

    return pilot
