"""Processes of sftp that carry out one command after another, for as many jobs as there are.

What fails ends one (it is a batch of sftp's, whose end nobody knows yet), so that no command is
carried out after one that failed. Format: sftp(1), OpenSSH 9.2. See docs/decisions/0017.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence

from balsam.errors import TransferError
from balsam.transfers import command
from balsam.transfers.command import Finished
from balsam.transfers.progress import Progress

#: The command whose answer shows that those before it are done, and that answer.
_MARK, _MARKED = b"pwd\n", re.compile(rb"^Remote working directory: .*\n", re.MULTILINE)
#: Seconds that it has to end when nothing is left for it to do.
_ENDING = 2.0
#: sftp reads no longer lines than 2048 bytes.
_LONGEST = 2000


class SessionEnded(Exception):
    """A command failed, or the connection is lost."""

    def __init__(self, ended: Finished) -> None:
        super().__init__(ended.reason)
        self.ended = ended


class Session:
    """One such process; one thread at a time uses it.

    Parameters
    ----------
    silence_seconds
        After so long without a word of sftp *is_well* is asked; when it says no, the process is
        killed.

    Raises
    ------
    TransferError
        There is no such program.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        silence_seconds: float,
        is_well: Callable[[], bool],
    ) -> None:
        self._silence_seconds, self._is_well = silence_seconds, is_well
        self._ended: Finished | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                # Messages are read, names are not to be changed.
                env={**os.environ, "LC_ALL": "C.UTF-8", **environ},
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._said.close()
            raise TransferError(f"cannot run {argv[0]}: {error.strerror}") from error

    def tell(self, commands: Sequence[str], progress: Progress) -> list[str]:
        """Have *commands* carried out; return the lines that they print.

        Raises
        ------
        SessionEnded
            One failed (those that begin with ``-`` may), or the connection is lost.
        Stopped
            The transfer was to end; the process is ended.
        """
        with progress.ended_by(lambda: command.kill(self._process)):
            try:
                return self._ask(commands)
            except (BrokenPipeError, EOFError):
                pass
        ended = self.end()
        progress.check()
        raise SessionEnded(ended)

    def end(self) -> Finished:
        """End it; return how it ended and what it said."""
        process = self._process
        if self._ended is not None:
            return self._ended
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            command.kill(process)
            process.wait()
        with process.stdout, self._said:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace")
        self._ended = Finished(process.returncode, said)
        return self._ended

    def _ask(self, commands: Sequence[str]) -> list[str]:
        """Write *commands*, and read until they are done. Raises `EOFError` at its end."""
        text = b"".join(os.fsencode(each) + b"\n" for each in commands)
        if any(len(line) > _LONGEST for line in text.splitlines()):
            raise TransferError("sftp takes no names as long as these; use rsync: for them")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(text + _MARK)
        descriptor = self._process.stdout.fileno()
        heard = b""
        while not (marked := _MARKED.search(heard)):
            self._wait_for(descriptor)
            if not (piece := os.read(descriptor, 65536)):
                raise EOFError
            heard += piece
        lines = os.fsdecode(heard[: marked.start()]).splitlines()
        return [line for line in lines if not line.startswith("sftp> ")]

    def _wait_for(self, descriptor: int) -> None:
        """Wait for a word; a connection that another process holds can be gone unseen."""
        looked = select.poll()
        looked.register(descriptor, select.POLLIN)
        while not looked.poll(1000 * self._silence_seconds):
            if not self._is_well():
                command.kill(self._process)
