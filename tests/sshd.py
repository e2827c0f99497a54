"""An sshd on 127.0.0.1, for whoever runs the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

_PATIENCE = 30.0
_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {path}/host_key
AuthorizedKeysFile {path}/id.pub
StrictModes no
UsePAM no
PidFile none
MaxStartups 100
SetEnv HOME={path}
Subsystem sftp internal-sftp
"""
_CLIENT = """\
Host *
  Port {port}
  IdentityFile {path}/id
  IdentitiesOnly yes
  UserKnownHostsFile {path}/known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  LogLevel ERROR
"""


def require(*others: str) -> None:
    """Without sshd and the *others*, fail in continuous integration, and skip elsewhere."""
    programs = ("/usr/sbin/sshd", "ssh", "sftp", "ssh-keygen", "setpriv", *others)
    absent = [word for word in programs if not shutil.which(word)]
    if absent:
        reason = f"{', '.join(absent)} is missing (tools/install-test-needs installs it)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Sshd:
    """Listens until it is closed; `config` is the file that ssh -F takes to reach it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="sshd"))
        self.port = free_port()
        self.config = self.path / "ssh_config"
        for key in ("id", "host_key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.path / key)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        public = " ".join((self.path / "host_key.pub").read_text().split()[:2])
        names = f"127.0.0.1,[127.0.0.1]:{self.port}"
        (self.path / "known_hosts").write_text(f"{names} {public}\n")
        (self.path / "sshd_config").write_text(_CONFIG.format(path=self.path, port=self.port))
        self.config.write_text(_CLIENT.format(path=self.path, port=self.port))
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        # It outlives the test that starts it, which looks for processes with its home.
        environ = {k: v for k, v in os.environ.items() if k != "BALSAM_HOME"}
        words = ["setpriv", "--pdeathsig", "KILL", "/usr/sbin/sshd"]
        words += ["-D", "-e", "-f", str(self.path / "sshd_config")]
        with (self.path / "log").open("wb") as log:
            self._process = subprocess.Popen(words, stderr=log, env=environ, start_new_session=True)
        deadline = time.monotonic() + _PATIENCE
        while "Server listening" not in (self.path / "log").read_text():
            assert self._process.poll() is None, (self.path / "log").read_text()
            assert time.monotonic() < deadline, (self.path / "log").read_text()
            time.sleep(0.005)

    @property
    def ssh(self) -> str:
        """The setting transfers.ssh that reaches it."""
        return f"ssh -F {self.config}"

    def drop_connections(self) -> int:
        """Cut all sessions off; it takes new ones. Returns how many there were."""
        found = subprocess.run(
            ["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True
        ).stdout.split()
        for pid in found:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        return len(found)

    def close(self) -> None:
        self.drop_connections()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.path)
