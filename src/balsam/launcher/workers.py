"""The workers of all nodes: started, heard, taken for lost, and started again.

A worker is lost when its process is known to have ended; or when it was silent for so long
that it must have ended itself, which it does when it does not hear us (see `worker`). Only
then its jobs may run elsewhere.
"""

from __future__ import annotations

import math
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any, NamedTuple

import msgspec
import zmq

from balsam.launcher import messages
from balsam.launcher.invitation import Invitation, last_words_file, write_invitation
from balsam.launcher.link import Links
from balsam.launcher.messages import Done, Hello, Stop, Sweep, ToWorker, Welcome
from balsam.launcher.starters import Starter
from balsam.launcher.worker import BEAT_SECONDS, KILL_SECONDS, WATCH_INPUT
from balsam.lifecycle.leftovers import kill_marked
from balsam.model.resources import NodeResources

#: How often a node's worker may end, soon after it began, before the node is given up.
MOST_STARTS = 5
#: A worker that was there for so many seconds before it ended was no failed start.
LASTING_SECONDS = 60.0
#: Seconds in which a worker that was started has to be there.
JOIN_SECONDS = 300.0
#: First and longest pause, in seconds, before a worker is started again.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: Seconds that workers get to kill what they run, and end.
ENDING_SECONDS = 10.0
#: How long, in seconds, the last news of a worker that ended may be on its way.
LOST_NEWS_SECONDS = 0.3
#: ssh ends with this code when it is the connection that failed, and not the far command.
SSH_FAILED = 255


class Joined(NamedTuple):
    """All spawners of a node's worker are there."""

    host: str
    resources: NodeResources
    spawners: list[str]


class News(NamedTuple):
    spawner: str
    done: Done


class Lost(NamedTuple):
    """A node's worker is gone, and all that it ran."""

    host: str
    message: str


class NotStarted(NamedTuple):
    """A node's worker could not be started; it is tried again."""

    host: str
    message: str


class GivenUp(NamedTuple):
    """A node is not tried again."""

    host: str
    message: str


Happening = Joined | News | Lost | NotStarted | GivenUp


class _Command:
    """A start command that runs."""

    def __init__(self, hosts: tuple[str, ...], process: Popen[bytes], local: bool) -> None:
        self.hosts = hosts
        self.process = process
        self.local = local  #: it is the worker itself
        self.end = os.pidfd_open(process.pid)


class _Post:
    """What is known of one node's worker."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.command: _Command | None = None
        self.is_here = False  #: started as a process of this machine
        self.spawners: dict[str, int] = {}  #: its links, and their numbers on the node
        self.silent: set[str] = set()  #: links that have said their last
        self.joined_at: float | None = None
        self.starts = 0  #: since it last stayed
        self.started_at = 0.0
        self.start_at: float | None = 0.0  #: when to start it; None: it was started, or given up
        self.is_again = False  #: it was there before
        self.given_up = ""


class Workers:
    """See the module's head.

    Parameters
    ----------
    directory
        The launcher's own in the site, for the invitation and last words; removed at the end.
    invitation
        What all workers are told.
    marks
        Variables that everything has that the launcher's workers start.
    errors
        File that takes what workers and start commands print.
    """

    def __init__(
        self,
        links: Links,
        starter: Starter,
        ssh: list[str],
        invitation: Invitation,
        directory: Path,
        marks: dict[str, str],
        errors: Any,
        now: Callable[[], float],
    ) -> None:
        self._links = links
        self._starter = starter
        self._ssh = ssh
        self._directory = directory
        self._marks = marks
        self._errors = errors
        self._now = now
        self._silence = invitation.silence_seconds + 2 * BEAT_SECONDS + KILL_SECONDS
        self._file = directory / "invitation"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_invitation(invitation, self._file)
        self._posts = {host: _Post(host) for host in invitation.hosts}
        self._post_of: dict[str, _Post] = {}  # of links
        self._commands: dict[int, _Command] = {}  # by the descriptor of their end
        self._ends = select.epoll()
        self._beat_at = self._look_at = self._start_at = 0.0

    @property
    def are_starting(self) -> bool:
        """Whether workers are on their way that were not there yet, and have not failed."""
        return any(
            post.starts < 2 and not post.is_again and post.joined_at is None and not post.given_up
            for post in self._posts.values()
        )

    @property
    def all_given_up(self) -> bool:
        return all(post.given_up for post in self._posts.values())

    def wake_at(self) -> float:
        """Return the monotonic time at which `look` has something to do, at the latest."""
        return min(self._beat_at, self._look_at, self._start_at)

    def fileno(self) -> int:
        """Return a descriptor that is readable when a start command has ended."""
        return self._ends.fileno()

    def send(self, spawner: str, message: ToWorker) -> None:
        self._links.send(spawner, message)

    # starting ---------------------------------------------------------------------------
    def _start(self, hosts: list[str]) -> None:
        command = [sys.executable, "-X", "utf8", "-m", "balsam.launcher.worker", str(self._file)]
        # Workers see the end of ours by their standard input, also while they start.
        mode = [WATCH_INPUT] if self._starter.name in ("ssh", "plain") else []
        if self._starter.one_command:
            lines = self._starter.words(hosts, command, self._ssh)
        else:
            lines = [
                line
                for host in hosts
                for line in self._starter.words((host,), [*command, host, *mode], self._ssh)
            ]
        for names, argv in lines:
            # What it takes from its environment: the invitation has the rest.
            source = PIPE if mode else DEVNULL
            process = Popen(argv, stdin=source, stdout=self._errors, stderr=self._errors)
            started = _Command(names, process, local=argv[: len(command)] == command)
            self._commands[started.end] = started
            self._ends.register(started.end, select.EPOLLIN)
            for name in names:
                post = self._posts[name]
                post.command, post.start_at = started, None
                post.is_here = started.local
                post.starts, post.started_at = post.starts + 1, time.monotonic()
                for words in self._directory.glob(f"{name}-*.words"):
                    words.unlink(missing_ok=True)

    def _start_later(self, post: _Post) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** max(0, post.starts - 2))
        first = post.is_again and post.starts == 1
        post.start_at = time.monotonic() + (0.0 if first else pause)
        self._start_at = min(self._start_at, post.start_at)

    # what happens -----------------------------------------------------------------------
    def hear(self) -> Iterable[Happening]:
        """Return what the workers say."""
        for name, message in self._links.receive():
            if isinstance(message, Hello):
                yield from self._take_hello(name, message)
            elif name in self._post_of:
                if message.last:
                    self._post_of[name].silent.add(name)
                    self._look_at = 0.0
                yield News(name, message)

    def _take_hello(self, name: str, hello: Hello) -> Iterable[Happening]:
        post = self._posts.get(hello.node.host)
        if post is None or post.joined_at is not None or post.start_at is not None:
            self._links.send(name, Stop())  # not expected: it was taken for lost, perhaps
            self._links.forget(name)
            return
        self._links.send(name, Welcome(self._now()))
        if post.is_again and not post.spawners:
            self._links.send(name, Sweep(self._marks_of(post)))
        post.spawners[name] = hello.spawner
        self._post_of[name] = post
        if len(post.spawners) == hello.spawners:
            post.joined_at = time.monotonic()
            yield Joined(post.host, hello.node, list(post.spawners))

    def look(self) -> Iterable[Happening]:
        """See who has ended or is silent; start who is to be started; give a sign of life."""
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + BEAT_SECONDS
            self._links.beat(self._now())
        for end, _ in self._ends.poll(0):
            yield from self._command_ended(self._commands.pop(end))
        if now >= self._look_at:
            self._look_at = now + BEAT_SECONDS
            for post in self._posts.values():
                yield from self._look_at_post(post, now)
        if now >= self._start_at:
            waiting = [post for post in self._posts.values() if post.start_at is not None]
            due = [post.host for post in waiting if (post.start_at or 0.0) <= now]
            if due:
                self._start(due)
            self._start_at = min((p.start_at for p in waiting if p.start_at), default=math.inf)

    def _look_at_post(self, post: _Post, now: float) -> Iterable[Happening]:
        if post.joined_at is None:
            is_starting = post.start_at is None and not post.given_up
            if is_starting and now - post.started_at > JOIN_SECONDS:
                self._abandon(post)
                yield from self._start_failed(post, None)
        elif post.silent:  # unasked
            yield from self._lose(post, f"the worker on {post.host} ended", surely=True)
        elif self._is_silent(post, now):
            yield from self._lose(post, f"nothing was heard of {post.host}", surely=False)
        elif now - post.joined_at > LASTING_SECONDS:
            post.starts = 0

    def _abandon(self, post: _Post) -> None:
        """End the start command of one worker, which may wait for ever."""
        if post.command is not None and len(post.command.hosts) == 1:
            post.command.process.kill()
        post.command = None

    def _is_silent(self, post: _Post, now: float) -> bool:
        heard = [self._links[n].heard_at for n in post.spawners if n in self._links]
        return now - min(heard, default=0.0) > self._silence

    def _command_ended(self, command: _Command) -> Iterable[Happening]:
        code = command.process.wait()
        self._ends.unregister(command.end)
        os.close(command.end)
        # Else the workers may live on without it: they are lost when they are silent.
        surely = command.local or (not self._starter.one_command and code != SSH_FAILED)
        for post in [self._posts[host] for host in command.hosts]:
            if post.command is not command:
                continue
            post.command = None
            if post.joined_at is None:
                yield from self._start_failed(post, code)
            elif surely:
                message = f"the worker on {post.host} ended unexpectedly ({code})"
                yield from self._lose(post, message, surely=True)

    def _start_failed(self, post: _Post, code: int | None) -> Iterable[Happening]:
        self._forget(post)
        how = f"did not join in {JOIN_SECONDS:g} s" if code is None else f"ended with code {code}"
        message = f"its worker could not be started: it {how}"
        if post.starts >= MOST_STARTS and not post.is_again:
            yield from self._give_up(post, message)
        else:
            if post.starts == 1:
                yield NotStarted(post.host, message)
            self._start_later(post)

    def _lose(self, post: _Post, message: str, *, surely: bool) -> Iterable[Happening]:
        """Take the loss of a node's worker, after what it could still say."""
        deadline = time.monotonic() + (LOST_NEWS_SECONDS if surely else 0.0)
        while len(post.silent) < len(post.spawners) and (left := deadline - time.monotonic()) > 0:
            self._links.socket.poll(int(1000 * left) + 1)
            yield from self.hear()
        yield from self._last_words(post)
        self._abandon(post)
        self._forget(post)
        post.joined_at, post.is_again = None, True
        if post.is_here:
            kill_marked(self._marks_of(post))  # its guardian may have died, too
        yield Lost(post.host, message)
        if post.starts >= MOST_STARTS:
            yield from self._give_up(post, f"its worker ended {post.starts} times")
        else:
            self._start_later(post)

    def _marks_of(self, post: _Post) -> dict[str, str]:
        return self._marks | {"BALSAM_NODE": post.host}

    def _last_words(self, post: _Post) -> Iterable[News]:
        """Return what a worker that did not hear us any more has left in files."""
        for name, number in post.spawners.items():
            heard = self._links[name].number if name in self._links else 0
            try:
                text = Path(last_words_file(str(self._directory), post.host, number)).read_bytes()
                words = messages.last_words.decode(text)
            except (OSError, msgspec.DecodeError):
                continue
            yield from (News(name, done) for done in words if done.number > heard)

    def _forget(self, post: _Post) -> None:
        for name in post.spawners:
            self._links.send(name, Stop())
            self._links.forget(name)
            del self._post_of[name]
        post.spawners, post.silent = {}, set()

    def _give_up(self, post: _Post, message: str) -> Iterable[Happening]:
        post.given_up, post.start_at = message, None
        yield GivenUp(post.host, message)

    # the end ------------------------------------------------------------------------------
    def end(self) -> Iterable[News]:
        """Have all workers kill what they run, and end; return what they still say."""
        self._links.broadcast(Stop())
        for command in self._commands.values():
            if not any(self._posts[host].joined_at for host in command.hosts):
                command.process.kill()  # it does not hear us
        deadline = time.monotonic() + ENDING_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            running = [c for c in self._commands.values() if c.process.poll() is None]
            if not running and not self._awaits_last_news():
                break
            # What has ended is readable for good: its last news are waited for by the socket.
            watched = zmq.Poller()
            watched.register(self._links.socket, zmq.POLLIN)
            for command in running:
                watched.register(command.end, zmq.POLLIN)
            if not watched.poll(int(1000 * (left if running else min(left, 1.0)))) and not running:
                break
            yield from (each for each in self.hear() if isinstance(each, News))
        for command in self._commands.values():
            if command.process.poll() is None:
                command.process.kill()
            command.process.wait()
            os.close(command.end)
        self._commands = {}
        self._ends.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _awaits_last_news(self) -> bool:
        """Tell whether a worker that ended as it was told has yet to be heard."""
        return any(len(post.silent) < len(post.spawners) for post in self._posts.values())
