"""One ssh connection a host, which all transfers with it share.

It is Balsam's own, through a socket that only the user can reach; where the user's configuration
of ssh shares connections (ControlPath), that is left to it. An ssh holds it whose own session is an
sftp that nobody talks to: it ends with its standard input, so none is left when we are killed.
Options: ssh(1), ssh_config(5), OpenSSH 9.2.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from balsam.errors import TransferError
from balsam.transfers import command
from balsam.transfers.command import Finished
from balsam.transfers.mover import Means
from balsam.transfers.progress import Progress
from balsam.transfers.urls import Url

#: Seconds that a connection is kept when nobody uses it.
LINGER = 30.0
#: Longest path of the sockets' directory: of 104 bytes, ssh takes 18 for itself meanwhile.
_LONGEST = 70
#: Most seconds in which the ssh that holds a connection answers: it is on this machine.
_PATIENCE = 10.0
#: Seconds that it has to take leave of the far side.
_ENDING = 2.0
#: The first message of the sftp protocol: its length, what it is, version 3.
_HELLO = b"\0\0\0\5\1\0\0\0\3"


class Connections:
    """The connections with all hosts."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int | None], Connection] = {}
        self._directory: Path | None = None

    def to(self, url: Url) -> Connection:
        """Return the one with the host of *url*, which `Connection.join` opens."""
        with self._lock:
            key = url.host, url.port
            if key not in self._known:
                path = self._sockets() if self._means.settings.share_connections else None
                socket = str(path / str(len(self._known))) if path else ""
                self._known[key] = Connection(url, self._means, socket)
            return self._known[key]

    def _sockets(self) -> Path | None:
        """Return a directory of our own for sockets, if there can be one with a short name."""
        if self._directory is None:
            for place in (tempfile.gettempdir(), "/tmp"):
                if len(os.fsencode(place)) < _LONGEST - 20:
                    try:
                        self._directory = Path(tempfile.mkdtemp(prefix="balsam-", dir=place))
                    except OSError:
                        continue
                    break
        return self._directory

    def close(self) -> None:
        """End them."""
        with self._lock:
            for connection in self._known.values():
                connection.close()
            self._known.clear()
            if self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)
                self._directory = None


class Connection:
    """What programs that use ssh need to get to one host.

    Parameters
    ----------
    socket
        Through which it is shared; empty when it is not to be.
    """

    def __init__(self, url: Url, means: Means, socket: str) -> None:
        self._url, self._means = url, means
        self._ssh = command.ssh_words(means.settings.ssh)
        self._options = command.ssh_options(means.settings.timeout_seconds)
        self._patience = min(_PATIENCE, means.settings.timeout_seconds)
        self._environ = {**os.environ, "LC_ALL": "C.UTF-8", **means.environ}
        self._socket = socket
        self._shares: bool | None = None if socket else False  #: None: not asked yet
        self._changed = threading.Condition()
        self._opening = False
        self._failure: Finished | None = None  #: of the last time it was opened
        self._holder: subprocess.Popen[bytes] | None = None
        self._users = 0
        self._timer: threading.Timer | None = None

    def join(self, progress: Progress) -> list[str]:
        """Open it if need be; return options of ssh by which to use it, until `leave`.

        Raises
        ------
        TransferError
            There can be none; `retryable` says whether another try may help.
        Stopped
            The transfer was to end.
        """
        if not self._is_open(progress):
            self._open(progress)
        if not self._shares:
            return self._options
        return [*self._options, "-o", "ControlMaster=no", "-o", f"ControlPath={self._socket}"]

    def leave(self) -> None:
        """Note that one who joined needs it no more."""
        with self._changed:
            self._users -= 1
            if self._users == 0 and self._holder is not None:
                self._timer = threading.Timer(LINGER, self._end_idle)
                self._timer.daemon = True
                self._timer.start()

    def is_well(self) -> bool:
        """Tell whether a shared connection answers; end it if not, so that there will be another.

        True when it is not shared: then ssh itself notices what is lost.
        """
        holder = self._holder
        if holder is None:
            return not self._shares
        asked = [*self._ssh, "-O", "check", "-o", f"ControlPath={self._socket}", *self._address()]
        if holder.poll() is None and self._ask(asked) == 0:
            return True
        with self._changed:
            if self._holder is holder:
                self._end(at_once=True)
        return False

    def close(self) -> None:
        """End it."""
        with self._changed:
            self._end(at_once=False)

    # inside
    def _is_open(self, progress: Progress) -> bool:
        """Join an open connection; if there is none, have the caller, and nobody else, open it."""
        with progress.ended_by(self._wake), self._changed:
            waited = False
            while self._opening:
                waited = True
                self._changed.wait()
                progress.check()
            if waited and self._failure is not None:
                raise self._failure.connection_failure(self._url.text)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._holder is not None and self._holder.poll() is not None:
                self._end(at_once=True)
            if self._shares is False or self._holder is not None:
                self._users += 1
                return True
            self._opening = True
            return False

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _open(self, progress: Progress) -> None:
        holder: subprocess.Popen[bytes] | None = None
        failure: Finished | None = None
        shares = self._shares
        try:
            if shares is None:
                shares = self._may_share()
            if shares:
                holder, failure = self._hold(progress)
                if failure is not None and not failure.is_connection_failure:
                    shares, failure = False, None  # it can be reached, but not shared
        finally:
            with self._changed:
                self._opening = False
                self._shares, self._holder, self._failure = shares, holder, failure
                self._users += shares is False or holder is not None
                self._changed.notify_all()
        if failure is not None:
            raise failure.connection_failure(self._url.text)

    def _may_share(self) -> bool:
        """Tell whether the user's configuration leaves that to us."""
        asked = [*self._ssh, "-G", *self._address()]
        try:
            told = subprocess.run(
                asked,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=self._environ,
                timeout=self._patience,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        known = re.search(rb"^controlpath (?!none$)", told.stdout, re.MULTILINE)
        return told.returncode == 0 and bool(told.stdout) and not known

    def _hold(
        self, progress: Progress
    ) -> tuple[subprocess.Popen[bytes], None] | tuple[None, Finished]:
        """Start the ssh that holds the connection; return it, or how it ended."""
        words = [*self._ssh, "-x", "-a", "-T", *self._options, "-o", "ClearAllForwardings=yes"]
        words += ["-o", "PermitLocalCommand=no", "-o", "ControlMaster=yes"]
        words += ["-o", "ControlPersist=no", "-o", f"ControlPath={self._socket}"]
        words += ["-s", *self._address(), "sftp"]
        with tempfile.TemporaryFile() as said:
            try:
                holder = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    env=self._environ,
                    start_new_session=True,
                )
            except OSError as error:
                raise TransferError(f"cannot run {words[0]}: {error.strerror}") from error
            try:
                with progress.ended_by(lambda: command.kill(holder)):
                    if _answers(holder, 2 * self._means.settings.timeout_seconds):
                        return holder, None
            except BaseException:
                _finish(holder, at_once=True)
                raise
            _finish(holder, at_once=False)
            progress.check()
            said.seek(0)
            return None, Finished(holder.returncode, said.read().decode(errors="replace"))

    def _address(self) -> list[str]:
        port = ["-p", str(self._url.port)] if self._url.port else []
        return [*port, re.sub(r"[\[\]]", "", self._url.host)]  # ssh takes no [::1]

    def _ask(self, words: list[str]) -> int | None:
        """Return the exit code of what ends soon; None when it does not."""
        silent = subprocess.DEVNULL
        try:
            return subprocess.run(
                words,
                stdin=silent,
                stdout=silent,
                stderr=silent,
                env=self._environ,
                timeout=self._patience,
            ).returncode
        except (OSError, subprocess.TimeoutExpired):
            return None

    def _end_idle(self) -> None:
        with self._changed:
            if self._users == 0:
                self._end(at_once=False)

    def _end(self, *, at_once: bool) -> None:
        """End it; the lock is held."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._holder is not None:
            _finish(self._holder, at_once=at_once)
            self._holder = None
            Path(self._socket).unlink(missing_ok=True)


def _answers(holder: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait until the far side says something, at most so long; tell whether it did."""
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdin.write(_HELLO)
        holder.stdin.flush()
    except BrokenPipeError:
        return False
    heard = select.poll()
    heard.register(holder.stdout, select.POLLIN)
    return bool(heard.poll(1000 * seconds) and os.read(holder.stdout.fileno(), 1024))


def _finish(holder: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """End the ssh that holds a connection."""
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdin.close()
    except BrokenPipeError:
        pass
    try:
        holder.wait(0 if at_once else _ENDING)
    except subprocess.TimeoutExpired:
        command.kill(holder)
        holder.wait()
    holder.stdout.close()
