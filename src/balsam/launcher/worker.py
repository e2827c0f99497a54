"""The launcher's process on one node: starts that node's processes.

Run as ``python -m balsam.launcher.worker`` with one JSON object (`Invitation`) on standard
input. It imports little: a thousand nodes do so at the same time.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections import deque

import msgspec
import zmq

from balsam.launcher.guardian import guard
from balsam.launcher.messages import (
    PROTOCOL,
    Beat,
    Done,
    Ended,
    Hello,
    Kill,
    Place,
    Recall,
    Run,
    Stop,
    Task,
    encoder,
    to_worker,
)
from balsam.launcher.process import CannotStart, Processes
from balsam.model.resources import NodeResources

#: Seconds between signs of life, and of silence after which the other side is taken for dead.
BEAT_SECONDS, SILENCE_SECONDS = 2.0, 20.0
#: Longest time that news waits for more news, so that they travel together.
GATHER_SECONDS, GATHER_COUNT = 0.01, 100


class Invitation(msgspec.Struct):
    """How a worker finds and trusts its head."""

    endpoint: str
    server_key: str  #: CURVE public key of the head
    public_key: str  #: this launch's worker keys
    secret_key: str
    node: NodeResources
    stream_prefix: str
    clock: float  #: the head's time minus this machine's monotonic clock, in seconds


class Worker:
    """Runs tasks on places, and tells the head."""

    def __init__(self, invitation: Invitation) -> None:
        self._node = invitation.node
        self._clock = invitation.clock
        self._processes = Processes(invitation.stream_prefix, self._now)
        self._queues: dict[int, deque[Task]] = {}
        self._idle: dict[int, list[Place]] = {}
        self._news = Done([], [], [], [])
        self._news_since: float | None = None
        self._stopping = False
        self._last_heard = self._last_said = time.monotonic()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.curve_serverkey = invitation.server_key.encode()
        self._socket.curve_publickey = invitation.public_key.encode()
        self._socket.curve_secretkey = invitation.secret_key.encode()
        self._socket.linger = 500
        self._socket.connect(invitation.endpoint)
        self._wakeup, writer = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the wake-up is all
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to all of us, the head acts on it
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the head decides

    def _now(self) -> float:
        """Return the head's time, which goes on steadily when the machine's clock is set."""
        return self._clock + time.monotonic()

    def run(self) -> int:
        """Work until the head says stop or is not heard any more."""
        self._socket.send(encoder.encode(Hello(PROTOCOL, os.getpid(), self._node)))
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        arrivals = int(self._socket.get(zmq.FD))
        poller.register(arrivals, select.POLLIN)
        self._receive()
        while not self._stopping:
            ready = [descriptor for descriptor, _ in poller.poll(self._timeout_ms())]
            if self._wakeup in ready:
                os.read(self._wakeup, 4096)
            if self._wakeup in ready or self._processes.some_are_ending:
                self._reap()
            said = self._say()
            # The socket's descriptor tells of changes, not of messages, and sending can swallow
            # what it would tell: whatever is there is taken each time.
            if said or arrivals in ready:
                self._receive()
            if time.monotonic() - self._last_heard > SILENCE_SECONDS:
                break
        self._end()
        return 0

    def _timeout_ms(self) -> int:
        """Return how long to wait for news; force the ends that are due."""
        now = time.monotonic()
        wait = self._last_said + BEAT_SECONDS - now
        if self._news_since is not None:
            wait = min(wait, self._news_since + GATHER_SECONDS - now)
        overdue = self._processes.force_overdue()
        if overdue is not None:
            wait = min(wait, overdue)
        return max(0, int(wait * 1000) + 1)

    def _receive(self) -> None:
        while True:
            try:
                message = to_worker.decode(self._socket.recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            self._last_heard = time.monotonic()
            match message:
                case Run(places, tasks):
                    for task in tasks:
                        self._queues.setdefault(task.class_id, deque()).append(task)
                    for place in places:
                        self._idle.setdefault(place.class_id, []).append(place)
                    for class_id in {p.class_id for p in places} | {t.class_id for t in tasks}:
                        self._fill(class_id)
                case Kill(tasks, grace_seconds):
                    self._kill(set(tasks), grace_seconds)
                case Recall():
                    self._give_back()
                case Beat():
                    pass
                case Stop():
                    self._stopping = True

    def _fill(self, class_id: int) -> None:
        """Start queued tasks on idle places; give back places that find no task."""
        idle, queue = self._idle.get(class_id), self._queues.get(class_id)
        while idle:
            place = idle.pop()
            if not self._start_next(queue, place):
                self._news.freed.append(place.id)
                self._changed()

    def _start_next(self, queue: deque[Task] | None, place: Place) -> bool:
        """Start the first of *queue* that can be started on *place*."""
        while queue:
            task = queue.popleft()
            try:
                started = self._processes.start(task, place)
            except CannotStart as reason:
                # A directory of the launcher's PATH, which it may show, need not be UTF-8.
                text = str(reason).encode(errors="replace").decode()
                ended = Ended(task.id, 0, self._now(), 1, 0.0, 0.0, 0, text)
                self._news.ended.append(ended)
                self._changed()
            else:
                self._news.started.append(started)
                self._changed()
                return True
        return False

    def _reap(self) -> None:
        """Take the tasks that have ended, and start the next ones on their places."""
        for ended, place in self._processes.reap():
            self._news.ended.append(ended)
            self._changed()
            if not self._start_next(self._queues.get(place.class_id), place):
                self._news.freed.append(place.id)

    def _kill(self, tasks: set[int], grace_seconds: float) -> None:
        """End these tasks; those that have not started are given back."""
        for task_id in tasks:
            self._processes.kill(task_id, grace_seconds)
        for class_id, queue in self._queues.items():
            back = [task.id for task in queue if task.id in tasks]
            if back:
                self._queues[class_id] = deque(t for t in queue if t.id not in tasks)
                self._news.returned += back
                self._changed()

    def _give_back(self) -> None:
        for queue in self._queues.values():
            self._news.returned.extend(task.id for task in queue)
            queue.clear()
        self._changed()

    def _changed(self) -> None:
        if self._news_since is None:
            self._news_since = time.monotonic()

    def _say(self) -> bool:
        """Send the news when there is reason to: enough of it, old enough, or a place is idle."""
        news, now = self._news, time.monotonic()
        due = now - self._last_said >= BEAT_SECONDS
        if self._news_since is not None:
            due = due or (
                bool(news.freed or news.returned)
                or len(news.ended) + len(news.started) >= GATHER_COUNT
                or now - self._news_since >= GATHER_SECONDS
            )
        if due:
            self._socket.send(encoder.encode(news))
            self._news = Done([], [], [], [])
            self._news_since, self._last_said = None, now
        return due

    def _end(self) -> None:
        """Kill what runs, at once: whoever wanted grace has asked for it before."""
        self._processes.kill_all(0.0)
        deadline = time.monotonic() + 5.0
        while len(self._processes) and time.monotonic() < deadline:
            for ended, _ in self._processes.reap():
                self._news.ended.append(ended)
            if select.select([self._wakeup], [], [], 0.05)[0]:
                os.read(self._wakeup, 4096)
        self._news.last = True
        self._socket.send(encoder.encode(self._news))
        self._socket.close()
        self._context.term()  # which waits until it is sent, for as long as the socket lingers


def main() -> int:
    """Read the invitation and work, under a guardian."""
    text = sys.stdin.buffer.read()
    return guard(lambda: Worker(msgspec.json.decode(text, type=Invitation)).run())


if __name__ == "__main__":
    sys.exit(main())
