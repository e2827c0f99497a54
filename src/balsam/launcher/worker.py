"""The launcher's process on one node: starts that node's processes.

Run as ``python -m balsam.launcher.worker FILE [HOST [watch-input]]``: the file has an
`Invitation`, HOST is the node's name in the allocation; with ``watch-input`` the end of its
standard input is the end of its head, too. It imports little: a thousand nodes do so at the
same time.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import time
from collections import deque

import zmq

from balsam.launcher import guardian
from balsam.launcher.invitation import Invitation, read_invitation
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
    Sweep,
    Task,
    Warn,
    Welcome,
    encoder,
    to_worker,
)
from balsam.launcher.process import Processes
from balsam.launcher.task_files import CannotStart
from balsam.lifecycle.leftovers import kill_marked
from balsam.model.resources import NodeResources

#: Seconds between signs of life.
BEAT_SECONDS = 2.0
#: Seconds that a worker takes at most to kill what it runs, when it has lost its head.
KILL_SECONDS = 5.0
#: Argument that says so: ends the worker when its standard input does.
WATCH_INPUT = "watch-input"
#: Longest time that news waits for more news, so that they travel together.
GATHER_SECONDS, GATHER_COUNT = 0.01, 100


class HeadClock:
    """The head's time, which goes on steadily when the machine's clock is set.

    A message cannot come before it was sent: this clock is never known to be behind what one
    said, and no more ahead than that. So what is recorded here after the head gave a place is
    later than what was recorded elsewhere before that place was given back.
    """

    def __init__(self) -> None:
        self._offset = -math.inf  # to our monotonic clock

    def not_before(self, time_there: float) -> None:
        """A message has come that was sent at this time."""
        self._offset = max(self._offset, time_there - time.monotonic())

    def not_after(self, time_there: float, sent: float) -> None:
        """What was *sent* at a time of our monotonic clock had come there by *time_there*."""
        self._offset = min(self._offset, time_there - sent)

    def now(self) -> float:
        return self._offset + time.monotonic()


class Worker:
    """One spawner: runs tasks on places, and tells the head.

    Parameters
    ----------
    spawner
        Its number among those of the node.
    processes
        Starts, watches and ends what the tasks are, by the time of *clock*.
    """

    def __init__(
        self,
        invitation: Invitation,
        node: NodeResources,
        spawner: int,
        processes: Processes,
        clock: HeadClock,
        *,
        watches_input: bool = False,
    ) -> None:
        self._invitation = invitation
        self._node = node
        self._spawner = spawner
        self._clock = clock
        self._watches_input = watches_input
        self._processes = processes
        self._queues: dict[int, deque[Task]] = {}
        self._idle: dict[int, list[Place]] = {}
        self._resuming: dict[int, deque[int]] = {}  # calls that need a place, by lane
        self._news = Done([], [], [], [])
        self._news_since: float | None = None
        self._number = 0  # of the last message
        #: Sent (when, by the monotonic clock), and not yet known to have been heard.
        self._unheard: deque[tuple[Done, float]] = deque()
        self._guardian = os.getppid()
        self._stopping = False
        self._last_heard = self._last_said = time.monotonic()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.curve_serverkey = invitation.server_key.encode()
        self._socket.curve_publickey = invitation.public_key.encode()
        self._socket.curve_secretkey = invitation.secret_key.encode()
        self._socket.sndhwm = self._socket.rcvhwm = 0
        self._gone = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(invitation.endpoint())
        self._wakeup, writer = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # the wake-up is all
        # Sent to all of us; the head acts on it.
        signal.signal(signal.SIGTERM, lambda *_: processes.note_term())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the head decides

    def run(self) -> int:
        """Work until the head says stop, or is gone, or not heard for too long."""
        spawners = self._invitation.spawners_on(self._node)
        hello = Hello(PROTOCOL, os.getpid(), self._spawner, spawners, self._node)
        self._socket.send(encoder.encode(hello))
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        arrivals, ends = int(self._socket.get(zmq.FD)), int(self._gone.get(zmq.FD))
        poller.register(arrivals, select.POLLIN)
        poller.register(ends, select.POLLIN)
        self._gone.poll(0)  # a socket tells only those that have looked
        poller.register(self._processes.fileno(), select.POLLIN)
        if self._watches_input:
            poller.register(0, select.POLLIN)
        self._receive()
        while not self._stopping:
            ready = [descriptor for descriptor, _ in poller.poll(self._timeout_ms())]
            if self._wakeup in ready:
                os.read(self._wakeup, 4096)
            if self._processes.fileno() in ready:
                self._hear_runners()
            if self._wakeup in ready or self._processes.some_are_ending:
                self._reap()
            said = self._say()
            # The socket's descriptor tells of changes, not of messages, and sending can swallow
            # what it would tell: whatever is there is taken each time.
            if said or arrivals in ready:
                self._receive()
            if self._stopping:
                break
            silent = time.monotonic() - self._last_heard > self._invitation.silence_seconds
            if silent or 0 in ready or (ends in ready and self._gone.poll(0)):
                self._reap_only()
                self._leave_last_words()
                self._kill_all()
                self._close(linger=0)
                return 1
            if os.getppid() != self._guardian:
                self._reap_only()
                news, self._news = self._news, Done([], [], [], [])
                self._kill_all()  # what ends by this is lost: nobody asked for it
                guardian.kill_descendants()
                self._news = news
                self._say_last()
                return 1
        self._kill_all()
        self._say_last()
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
                case Run(places, tasks, when):
                    self._clock.not_before(when)
                    for task in tasks:
                        self._queues.setdefault(task.lane, deque()).append(task)
                    for place in places:
                        self._idle.setdefault(place.lane, []).append(place)
                    for lane in {p.lane for p in places} | {t.lane for t in tasks}:
                        self._fill(lane)
                case Kill(tasks, grace_seconds):
                    self._kill(set(tasks), grace_seconds)
                case Warn(tasks, number):
                    for task_id in tasks:
                        self._processes.send_signal(task_id, number)
                case Recall(lane, most):
                    self._give_back(lane, most)
                case Sweep(marks):
                    kill_marked(marks)
                case Welcome(when):
                    self._clock.not_before(when)
                case Beat(heard, when):
                    self._clock.not_before(when)
                    while self._unheard and self._unheard[0][0].number <= heard:
                        _, sent = self._unheard.popleft()
                        self._clock.not_after(when, sent)
                case Stop():
                    self._stopping = True

    def _fill(self, lane: int) -> None:
        """Start queued tasks on idle places; give back places that find no task."""
        for place in self._idle.pop(lane, ()):
            self._use(place)

    def _use(self, place: Place) -> None:
        """Start the next task of the place's lane on it, or give it back."""
        resuming = self._resuming.get(place.lane)
        while resuming:
            if self._processes.resume(resuming.popleft(), place):
                return
        self._resuming.pop(place.lane, None)
        queue = self._queues.get(place.lane)
        if not self._start_next(queue, place):
            self._queues.pop(place.lane, None)
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
                ended = Ended(task.id, 0, self._clock.now(), 1, 0.0, 0.0, 0, text)
                self._news.ended.append(ended)
                self._changed()
            else:
                self._news.started.append(started)
                self._changed()
                return True
        return False

    def _reap(self) -> None:
        """Take the tasks that have ended, and start the next ones on their places."""
        self._hear_runners()  # what they said before they ended
        self._take_ended(self._processes.reap())

    def _take_ended(self, all_ended: list[tuple[Ended, Place | None]]) -> None:
        for ended, place in all_ended:
            self._news.ended.append(ended)
            self._changed()
            if place is not None:
                self._use(place)

    def _hear_runners(self) -> None:
        """Take what runners say: calls that ended, that wait for other jobs, or no more."""
        heard = self._processes.hear()
        self._take_ended(heard.ended)
        for task, place in heard.blocked:
            self._news.blocked.append(task)
            self._changed()
            self._use(place)
        for waiting in heard.unblocked:
            self._news.unblocked.append(waiting.id)
            self._resuming.setdefault(waiting.lane, deque()).append(waiting.id)
            self._changed()

    def _kill(self, tasks: set[int], grace_seconds: float) -> None:
        """End these tasks; those that have not started are given back."""
        for task_id in tasks:
            self._processes.kill(task_id, grace_seconds)
        for lane, queue in self._queues.items():
            back = [task.id for task in queue if task.id in tasks]
            if back:
                self._queues[lane] = deque(t for t in queue if t.id not in tasks)
                self._news.returned += back
                self._changed()

    def _give_back(self, lane: int | None, most: int) -> None:
        """Give queued tasks back, the last first: at most so many (0: all) of a lane, or of all."""
        for each, queue in self._queues.items():
            if lane in (None, each):
                for _ in range(min(most or len(queue), len(queue))):
                    self._news.returned.append(queue.pop().id)
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
                bool(news.freed or news.returned or news.unblocked)
                or len(news.ended) + len(news.started) >= GATHER_COUNT
                or now - self._news_since >= GATHER_SECONDS
            )
        if due:
            self._send()
        return due

    def _send(self) -> None:
        self._number += 1
        self._news.number = self._number
        self._last_said = time.monotonic()
        self._socket.send(encoder.encode(self._news))
        self._unheard.append((self._news, self._last_said))
        self._news = Done([], [], [], [])
        self._news_since = None

    def _leave_last_words(self) -> None:
        """Write what the head has not heard where it will look for it.

        What has ended by now need not run again, though the head cannot be told.
        """
        self._number += 1
        self._news.number = self._number
        words = encoder.encode([*(done for done, _ in self._unheard), self._news])
        path = self._invitation.last_words_file(self._node.host, self._spawner)
        try:
            with open(f"{path}.new", "wb") as file:
                file.write(words)
            os.rename(f"{path}.new", path)
        except OSError:
            pass  # then it runs again, like all that cannot be known

    def _reap_only(self) -> None:
        self._news.ended += [ended for ended, _ in self._processes.hear().ended]
        for ended, _ in self._processes.reap():
            self._news.ended.append(ended)

    def _kill_all(self) -> None:
        """Kill what runs, at once: whoever wanted grace has asked for it before."""
        self._processes.kill_all(0.0)
        deadline = time.monotonic() + KILL_SECONDS
        while len(self._processes) and time.monotonic() < deadline:
            self._reap_only()
            if select.select([self._wakeup], [], [], 0.05)[0]:
                os.read(self._wakeup, 4096)

    def _say_last(self) -> None:
        self._news.last = True
        self._send()
        self._close(linger=500)

    def _close(self, linger: int) -> None:
        """Close the link, for at most *linger* milliseconds after what is still to be sent."""
        self._socket.disable_monitor()
        self._gone.close(linger=0)
        self._socket.close(linger=linger)
        self._context.term()


def main() -> int:
    """Read the invitation and work, under a guardian."""
    invitation = read_invitation(sys.argv[1])
    host = sys.argv[2] if len(sys.argv) > 2 else None
    node = invitation.this_node(host)
    invitation.enter_environ()
    os.environ["BALSAM_NODE"] = node.host

    def work(spawner: int) -> int:
        clock = HeadClock()
        processes = Processes(f"{invitation.stream_prefix}/{node.host}-{spawner}", clock.now)
        watches_input = WATCH_INPUT in sys.argv[3:]
        return Worker(
            invitation, node, spawner, processes, clock, watches_input=watches_input
        ).run()

    return guardian.guard(work, invitation.spawners_on(node))


if __name__ == "__main__":
    sys.exit(main())
