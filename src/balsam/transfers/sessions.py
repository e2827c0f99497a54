"""Sessions of sftp that are kept for the next job with the same host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from balsam.errors import TransferBroken
from balsam.transfers import command
from balsam.transfers.connections import LINGER, Connection, Connections
from balsam.transfers.mover import Means
from balsam.transfers.progress import Progress
from balsam.transfers.session import Session, SessionEnded
from balsam.transfers.urls import Url

T = TypeVar("T")


class Sessions:
    """Lends sessions: one to one job at a time.

    Parameters
    ----------
    options
        Of sftp.
    """

    def __init__(self, means: Means, connections: Connections, options: Sequence[str]) -> None:
        self._means, self._connections, self._options = means, connections, options
        self._lock = threading.Lock()
        self._idle: dict[Connection, list[Session]] = {}
        self._timer: threading.Timer | None = None

    def use(self, url: Url, progress: Progress, work: Callable[[Session], T]) -> T:
        """Return what *work* does with a session with the host of *url*.

        One that was kept may have been lost meanwhile: then *work* is called again, with another.

        Raises
        ------
        TransferError
            There is no connection; or *work* raised it.
        SessionEnded
            *work* raised it.
        """
        connection = self._connections.to(url)
        if (kept := self._take(connection)) is not None:
            try:
                return self._lend(connection, kept, work)
            except SessionEnded as error:
                if not error.ended.is_lost_connection:
                    raise
            except TransferBroken:
                pass
        return self._lend(connection, self._start(connection, url, progress), work)

    def close(self) -> None:
        """End those that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, {}
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for connection, sessions in idle.items():
            for session in sessions:
                session.end()
                connection.leave()

    def _start(self, connection: Connection, url: Url, progress: Progress) -> Session:
        settings = self._means.settings
        ssh, *words = command.ssh_words(settings.ssh)
        argv = ["sftp", *words, *connection.join(progress), *self._options, "-b", "-"]
        argv += ["-S", ssh] if ssh != "ssh" else []
        argv += ["-P", str(url.port)] if url.port else []
        try:
            return Session(
                [*argv, url.host],
                self._means.environ,
                settings.timeout_seconds,
                connection.is_well,
            )
        except BaseException:
            connection.leave()
            raise

    def _lend(self, connection: Connection, session: Session, work: Callable[[Session], T]) -> T:
        try:
            result = work(session)
        except BaseException as error:
            session.end()
            connection.leave()
            if isinstance(error, SessionEnded) and error.ended.is_lost_connection:
                connection.is_well()  # else the next try must find another
            raise
        with self._lock:
            self._idle.setdefault(connection, []).append(session)
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(LINGER, self.close)
            self._timer.daemon = True
            self._timer.start()
        return result

    def _take(self, connection: Connection) -> Session | None:
        with self._lock:
            idle = self._idle.get(connection)
            return idle.pop() if idle else None
