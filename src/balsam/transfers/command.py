"""Runs the system's own programs that move files."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from balsam.errors import TransferBroken, TransferError
from balsam.transfers.progress import Progress

#: Longest end of what a program said that is told.
_LONGEST = 500
#: What ssh says (exit code 255) when no further try can help.
_FOR_GOOD = re.compile(
    r"Permission denied|Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED"
    r"|no matching|Bad owner or permissions|Bad configuration option|Can't open user config"
)


class Finished(NamedTuple):
    """How a program ended, and what it said to the standard error."""

    code: int
    said: str

    @property
    def reason(self) -> str:
        """The last lines of what it said, as one."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        return "; ".join(lines)[-_LONGEST:] or f"exit code {self.code}"

    @property
    def is_connection_failure(self) -> bool:
        """Whether it is an ssh that could not connect, or lost its connection."""
        return self.code == 255 and "subsystem request failed" not in self.said

    @property
    def is_lost_connection(self) -> bool:
        """Whether it is a program that lost its ssh, by which it died, or that ssh."""
        lost = re.search(r"Connection (closed|reset)|Broken pipe", self.said)
        return self.code == 255 or self.code < 0 or bool(lost)

    def connection_failure(self, what: str) -> TransferError:
        """Return the error of an ssh that could not connect, or lost its connection."""
        kind = TransferError if _FOR_GOOD.search(self.said) else TransferBroken
        return kind(f"{what}: {self.reason}")


def run(
    argv: Sequence[str],
    progress: Progress,
    environ: Mapping[str, str],
    hear: Callable[[str], None],
    stdin: bytes = b"",
) -> Finished:
    """Run *argv* to its end, with *stdin*; pass on the lines that it writes.

    It is killed, with all that it has started, when the transfer is to end.

    Raises
    ------
    TransferError
        There is no such program.
    Stopped
        The transfer was to end.
    """
    # Messages are read, names are not to be changed.
    variables = {**os.environ, "LC_ALL": "C.UTF-8", **environ}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(stdin)
        given.seek(0)
        try:
            process = subprocess.Popen(
                argv,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=said,
                env=variables,
                start_new_session=True,
            )
        except OSError as error:
            raise TransferError(f"cannot run {argv[0]}: {error.strerror}") from error
        with process:
            try:
                with progress.ended_by(lambda: kill(process)):
                    assert process.stdout is not None
                    for line in _lines(process.stdout.fileno()):
                        hear(line)
                    process.wait()
            except BaseException:
                kill(process)
                raise
        progress.check()
        said.seek(0)
        return Finished(process.returncode, said.read().decode(errors="replace"))


def _lines(descriptor: int) -> Iterator[str]:
    """Yield lines, which also a carriage return ends, as they come."""
    rest = b""
    while piece := os.read(descriptor, 65536):
        *whole, rest = re.split(rb"[\r\n]", rest + piece)
        yield from (os.fsdecode(line) for line in whole)
    if rest:
        yield os.fsdecode(rest)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a *process*, which began a session, with all that it has started."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def ssh_options(timeout: float) -> list[str]:
    """Return options by which ssh asks nobody, and notices a connection that is lost."""
    interval = max(1, int(timeout / 3))
    return [
        *("-o", "BatchMode=yes"),
        *("-o", f"ConnectTimeout={max(1, int(timeout))}"),
        *("-o", f"ServerAliveInterval={interval}"),
        *("-o", "ServerAliveCountMax=3"),
    ]


def ssh_words(command: str) -> list[str]:
    """Return the words of the setting transfers.ssh."""
    return shlex.split(command) or ["ssh"]
