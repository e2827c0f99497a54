"""Several hosts on one machine: each has a network, a name and an sshd of its own.

A host is the network, UTS and mount namespaces of its sshd, which hold for as long as a process
is in them: nothing is left in the system, whatever happens to us. The cable of each goes into a
bridge in a network namespace of its own, so that any number of such sets are there side by side.
The hosts see all files and all processes of this machine.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

#: The first three numbers of their addresses.
NETWORK = "10.77.0"
#: Seconds until a host that does not start, or a process that does not end, is given up.
PATIENCE = 30.0

#: HOME: without it each login would read the user's start-up files, and wait for what they do.
_SSHD = """\
Port 22
HostKey {path}/host_key
AuthorizedKeysFile {path}/id.pub
StrictModes no
UsePAM no
PidFile none
MaxStartups 100
SetEnv HOME={path}
"""
#: Multiplexing, and questions, are not for tests.
_SSH = """\
Host *
  IdentityFile {path}/id
  IdentitiesOnly yes
  UserKnownHostsFile {path}/known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  ControlPath none
  LogLevel ERROR
"""
_START_SWITCH = "ip link add switch type bridge && ip link set switch up && exec sleep infinity"
_START_HOST = (
    'mount --bind "$1/hosts" /etc/hosts && hostname "$2" && ip link set lo up'
    ' && exec /usr/sbin/sshd -D -e -f "$1/sshd_config"'
)


def missing() -> str:
    """Return what keeps this machine from having hosts, '' when nothing does."""
    if os.getuid() != 0:
        return "only root can make hosts of namespaces"
    programs = ("ip", "ssh", "ssh-keygen", "/usr/sbin/sshd", "unshare", "nsenter", "setpriv")
    absent = [word for word in programs if not shutil.which(word)]
    if absent:
        packages = "openssh-server openssh-client iproute2 util-linux"
        return f"{', '.join(absent)} is missing (Debian: apt-get install {packages})"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, text=True
    )
    return f"namespaces cannot be made: {tried.stderr.strip()}" if tried.returncode else ""


def require() -> None:
    """Without what hosts need, fail in continuous integration, and skip elsewhere."""
    if reason := missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Hosts:
    """Hosts h1, h2, … up to *count*; in calls they are numbered from 1."""

    def __init__(self, count: int) -> None:
        self.names = [f"h{number}" for number in range(1, count + 1)]
        self.path = Path(tempfile.mkdtemp(prefix="hosts"))
        self._daemons: list[subprocess.Popen[bytes]] = []
        # They outlive the test that started them, which looks for processes with its home.
        self._environ = {k: v for k, v in os.environ.items() if k != "BALSAM_HOME"}
        try:
            self._write_files()
            self._switch = self._start("switch", "--net", "sh", "-c", _START_SWITCH)
            self._hosts = [
                self._start(
                    name,
                    *("--net", "--uts", "--mount", "sh", "-c", _START_HOST),
                    *("sh", str(self.path), name),
                )
                for name in self.names
            ]
            for number in range(1, count + 1):
                self._wait_for(number)
            self._wire()
        except BaseException:
            self.close()
            raise

    @property
    def ssh(self) -> list[str]:
        """The ssh command that reaches each host from each, with its options."""
        return ["ssh", "-F", str(self.path / "ssh_config")]

    # what runs on them
    def on(self, number: int, argv: Sequence[object]) -> list[str]:
        """Return the words that run *argv* on a host, in the working directory."""
        pid = self._hosts[number - 1].pid
        entered = ["nsenter", "-t", str(pid), "-n", "-u", "-m", "--wd=.", "--"]
        return [*entered, *map(str, argv)]

    def run(self, number: int, argv: Sequence[object], **options: Any) -> str:
        """Run *argv* on a host to its end, which must be a good one; return what it wrote."""
        done = subprocess.run(
            self.on(number, argv), capture_output=True, text=True, timeout=PATIENCE, **options
        )
        assert done.returncode == 0, f"{shlex.join(map(str, argv))}: {done.stdout}{done.stderr}"
        return done.stdout

    def popen(self, number: int, argv: Sequence[object], **options: Any) -> subprocess.Popen[Any]:
        """Start *argv* on a host; the pid is that of the program itself."""
        return subprocess.Popen(self.on(number, argv), **options)

    def processes(self, number: int) -> list[int]:
        """Return the pids of what runs on a host, besides its sshd; zombies are not there."""
        daemon = self._hosts[number - 1].pid
        name = _uts(daemon)
        return [pid for pid in _pids() if pid != daemon and _uts(pid) == name]

    def wait_until_empty(self, numbers: Iterable[int] = ()) -> None:
        """Wait until nothing runs on these hosts, or on all; fail with what does."""
        deadline = time.monotonic() + PATIENCE
        among = list(numbers) or range(1, len(self.names) + 1)
        while left := {n: pids for n in among if (pids := self.processes(n))}:
            if time.monotonic() > deadline:
                told = [f"h{n}: {pid} {_words(pid)}" for n, pids in left.items() for pid in pids]
                pytest.fail("still running:\n" + "\n".join(told))
            time.sleep(0.02)

    def kill_all(self, number: int) -> None:
        """kill -9 all that runs on a host, sessions of ssh too; its sshd takes new ones."""
        while pids := self.processes(number):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.01)

    # their network
    def cut(self, number: int) -> None:
        """Pull a host's cable at the switch: all sides see silence, and no error."""
        self._switch_ip(f"link set port{number} down")

    def cut_for(self, number: int, seconds: float) -> None:
        """Cut a host off for so long: here the time is the fault."""
        self.cut(number)
        time.sleep(seconds)
        self.heal(number)

    def heal(self, number: int) -> None:
        self._switch_ip(f"link set port{number} up")

    def heal_all(self) -> None:
        self._switch_ip(*(f"link set port{n} up" for n in range(1, len(self.names) + 1)))

    def close(self) -> None:
        """End all that runs on them, and them."""
        for number in range(1, len(getattr(self, "_hosts", [])) + 1):
            self.kill_all(number)
        for daemon in self._daemons:
            daemon.kill()
            daemon.wait()
        shutil.rmtree(self.path)

    # making them
    def _write_files(self) -> None:
        path, addresses = self.path, {n: self.address(i) for i, n in enumerate(self.names, 1)}
        for key in ("id", "host_key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path / key)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        public = " ".join((path / "host_key.pub").read_text().split()[:2])
        lines = [f"{address} {name}" for name, address in addresses.items()]
        (path / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        known = [f"{name},{address} {public}\n" for name, address in addresses.items()]
        (path / "known_hosts").write_text("".join(known))
        (path / "sshd_config").write_text(_SSHD.format(path=path))
        (path / "ssh_config").write_text(_SSH.format(path=path))
        Path("/run/sshd").mkdir(exist_ok=True)  # Debian's sshd wants it, whatever its settings

    @staticmethod
    def address(number: int) -> str:
        return f"{NETWORK}.{number}"

    def _start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """Start the process that holds namespaces, and that dies with us."""
        with (self.path / f"{name}.log").open("wb") as log:
            daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                start_new_session=True,
            )
        self._daemons.append(daemon)
        return daemon

    def _wait_for(self, number: int) -> None:
        daemon, log = self._hosts[number - 1], self.path / f"h{number}.log"
        deadline = time.monotonic() + PATIENCE
        while "Server listening" not in log.read_text():
            assert daemon.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.005)

    def _wire(self) -> None:
        for number, host in enumerate(self._hosts, 1):
            self._switch_ip(
                f"link add port{number} type veth peer name eth0 netns {host.pid}",
                f"link set port{number} master switch",
                f"link set port{number} up",
            )
            _ip(host.pid, f"addr add {self.address(number)}/24 dev eth0", "link set eth0 up")

    def _switch_ip(self, *commands: str) -> None:
        _ip(self._switch.pid, *commands)


def _ip(pid: int, *commands: str) -> None:
    """Have `ip` do *commands* in the network namespace of a process."""
    subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "ip", "-batch", "-"],
        input="\n".join(commands),
        text=True,
        check=True,
    )


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _uts(pid: int) -> str:
    """Return the UTS namespace of a process, '' when it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/uts")
    except OSError:
        return ""


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return "(ended)"
