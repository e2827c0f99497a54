"""Waking waiting processes by PostgreSQL's NOTIFY, wherever they are.

Who changes something notifies within the transaction, so that others hear of it when it is
there to be seen. Nothing depends on a notice being heard: watchers also look by themselves,
only later.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.errors import StoreBusy
from balsam.model.wire import Topic

if TYPE_CHECKING:
    from balsam.store.database import Database

#: First and longest pause, in seconds, before a server that is away is asked again.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
#: Seconds until one who found the server crowded tries again to listen.
CROWDED_PAUSE = 30.0


def notify(connection: Connection, topics: Collection[Topic], token: str) -> None:
    """Wake all who watch *topics*, once the transaction is committed, but not *token* itself."""
    if topics:
        calls = [sa.func.pg_notify(_channel(topic), token) for topic in topics]
        connection.execute(sa.select(*calls))


def _channel(topic: Topic) -> str:
    return f"balsam_{topic}"


class Listener:
    """A watch on a PostgreSQL database.

    `wait` uses the store's own connection; a descriptor, which must be readable while that is
    in use, has a thread and a connection of its own.

    Parameters
    ----------
    token
        What our own notices carry: they are not heard.
    """

    def __init__(self, database: Database, topic: Topic, token: str) -> None:
        self._database = database
        self._topic = topic
        self._token = token
        self._thread: _Thread | None = None
        self._heard = False
        with self._listening(database):
            self._heard = False

    def fileno(self) -> int:
        if self._thread is None:
            self._thread = _Thread(self._follow)
        return self._thread.reader

    def wait(self, timeout: float) -> bool:
        if self._database.crowded:  # whoever waits looks for himself
            time.sleep(timeout)
            return False
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if not self._heard_by(self._database, max(0.0, left)):
                time.sleep(min(FIRST_PAUSE, max(0.0, left)))  # whoever waited asks, and is told
            if self._heard or left <= 0:
                heard, self._heard = self._heard, False
                return heard

    def clear(self) -> None:
        self._heard = False
        if self._thread is not None:
            self._thread.clear()

    def close(self) -> None:
        if self._thread is not None:
            self._thread.close()

    def _heard_by(self, database: Database, timeout: float, stop: int | None = None) -> bool:
        """Wait for a notice as `_hear` does; tell whether we had a connection, and it held."""
        try:
            with database.turn():
                try:
                    self._hear(database, timeout, stop)
                except database.errors:
                    database.engine.dispose()
                    return False
        except StoreBusy:
            return False
        return True

    def _hear(self, database: Database, timeout: float, stop: int | None) -> None:
        """Wait for a notice of others, or until *stop* is readable."""
        with self._listening(database) as raw:
            self._take(raw)
            if not self._heard:
                waiting = select.poll()
                for descriptor in (raw.fileno(), stop):
                    if descriptor is not None:
                        waiting.register(descriptor, select.POLLIN)
                waiting.poll(1000 * timeout)
                self._take(raw)

    def _take(self, raw: psycopg.Connection[Any]) -> None:
        notices = list(raw.notifies(timeout=0))
        self._heard |= any(notice.payload != self._token for notice in notices)

    @contextmanager
    def _listening(self, database: Database) -> Iterator[psycopg.Connection[Any]]:
        """Give a connection that listens; a new one may have missed something."""
        borrowed = database.engine.raw_connection()
        try:
            raw: Any = borrowed.driver_connection
            if self._topic not in borrowed.info:
                raw.execute(f"LISTEN {_channel(self._topic)}")
                raw.commit()
                borrowed.info[self._topic] = True
                self._heard = True
            yield raw
        except BaseException:
            borrowed.invalidate()
            raise
        finally:
            borrowed.close()

    def _follow(self, thread: _Thread) -> None:
        """Make the thread's descriptor readable whenever something was heard, until it ends."""
        own = self._database.another()
        pause = FIRST_PAUSE
        while not thread.ending:
            if not self._heard_by(own, 3600.0, stop=thread.stopped):
                thread.wait(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)
                continue
            pause = FIRST_PAUSE
            if self._heard:
                self._heard = False
                thread.ring()
            if own.crowded:
                thread.wait(CROWDED_PAUSE)
        own.engine.dispose()


class _Thread:
    """Runs *follow* beside the caller, who sees what happens by a descriptor."""

    def __init__(self, follow: Callable[[_Thread], None]) -> None:
        self.ending = False
        self.reader, self._writer = os.pipe()
        self.stopped, self._stopper = os.pipe()
        for end in (self.reader, self._writer):
            os.set_blocking(end, False)
        self._thread = threading.Thread(
            target=follow, args=(self,), name="balsam-listener", daemon=True
        )
        self._thread.start()

    def ring(self) -> None:
        try:
            os.write(self._writer, b"!")
        except BlockingIOError:
            pass  # full of bells already

    def clear(self) -> None:
        try:
            while os.read(self.reader, 4096):
                pass
        except BlockingIOError:
            pass

    def wait(self, seconds: float) -> None:
        """Block for *seconds*, or until the end."""
        waiting = select.poll()
        waiting.register(self.stopped, select.POLLIN)
        waiting.poll(1000 * seconds)

    def close(self) -> None:
        self.ending = True
        os.write(self._stopper, b"!")
        self._thread.join()
        for end in (self.reader, self._writer, self.stopped, self._stopper):
            os.close(end)
