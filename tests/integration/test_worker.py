"""A worker and its head's end of the link, without a planner or a database between."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from balsam.launcher.invitation import Invitation, last_words_file, write_invitation
from balsam.launcher.link import Links
from balsam.launcher.messages import (
    Done,
    Ended,
    Hello,
    Kill,
    Place,
    Recall,
    Run,
    Started,
    Stop,
    Sweep,
    Task,
    Warn,
    Welcome,
    last_words,
)
from tests.integration.conftest import is_running, wait_until

numbers = count(1)


def invitation(directory: Path, links: Links, **fields: Any) -> Invitation:
    given: dict[str, Any] = {
        "endpoints": links.endpoints,
        "server_key": links.keys.server,
        "public_key": links.keys.public,
        "secret_key": links.keys.secret,
        "hosts": ["here"],
        "environ": dict(os.environb) | {b"MARK": b"m"},
        "stream_prefix": str(directory / "stream"),
        "words_prefix": str(directory),
        "silence_seconds": 30.0,
        "cores": 2,
    }
    return Invitation(**(given | fields))


class Head:
    """Speaks to one worker and keeps what that says."""

    def __init__(self, directory: Path, **fields: Any) -> None:
        self.directory = directory
        self.links = Links(["localhost"])
        self.started: dict[int, Started] = {}
        self.ended: dict[int, Ended] = {}
        self.freed: list[int] = []
        self.returned: list[int] = []
        self.hello: list[tuple[str, Hello]] = []
        file = directory / "invitation"
        write_invitation(invitation(directory, self.links, **fields), file)
        assert file.stat().st_mode & 0o777 == 0o600
        command = [sys.executable, "-m", "balsam.launcher.worker", str(file), "here"]
        with (directory / "errors").open("wb") as errors:
            self.process = Popen(command, stdin=DEVNULL, stderr=errors)
        self.wait(lambda: self.hello and len(self.hello) == self.hello[0][1].spawners)
        for name, _ in self.hello:
            self.links.send(name, Welcome(time.time()))

    @property
    def name(self) -> str:
        return self.hello[0][0]

    def send(self, message: Any) -> None:
        self.links.send(self.name, message)

    def wait(self, condition: Any) -> None:
        def hear() -> Any:
            for name, message in self.links.receive():
                if isinstance(message, Hello):
                    self.hello.append((name, message))
                else:
                    self.take(message)
            return condition()

        wait_until(hear, lambda: (vars(self), (self.directory / "errors").read_text()))

    def take(self, done: Done) -> None:
        for started in done.started:
            assert started.task not in self.started
            self.started[started.task] = started
        for ended in done.ended:
            assert ended.task not in self.ended
            self.ended[ended.task] = ended
        self.freed += done.freed
        self.returned += done.returned

    def task(self, text: str, lane: int = 1, **fields: Any) -> Task:
        number = next(numbers)
        return Task(
            id=number,
            lane=lane,
            argv=["/bin/sh", "-c", text],
            cwd=str(self.directory / "job"),
            environ={},
            output=f"{number}.out",
            **fields,
        )

    def close(self) -> None:
        if self.process.poll() is None:
            self.links.broadcast(Stop())
        self.process.wait(60)
        self.links.close()

    def output(self, task: Task) -> str:
        file = Path(task.cwd, task.output)
        return file.read_text() if file.exists() else ""


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    head = Head(tmp_path)
    yield head
    head.close()


def run(places: list[Place], tasks: list[Task]) -> Run:
    return Run(places, tasks, time.time())


def places(number: int, lane: int = 1) -> list[Place]:
    return [Place(next(numbers), lane) for _ in range(number)]


def test_a_place_runs_the_tasks_of_its_lane_one_after_the_other(head: Head) -> None:
    granted = places(2)
    tasks = [head.task("exit 3") for _ in range(10)]
    head.send(run(granted, tasks))
    head.wait(lambda: len(head.freed) == 2)
    assert {one.exit_code for one in head.ended.values()} == {3}
    assert set(head.started) == set(head.ended) == {task.id for task in tasks}
    assert sorted(head.freed) == sorted(place.id for place in granted)
    spans = sorted((head.started[i].time, head.ended[i].time) for i in head.started)
    running = [sum(a <= start < b for a, b in spans) for start, _ in spans]
    assert max(running) <= 2


def test_lanes_do_not_take_each_other_s_places(head: Head) -> None:
    first, second = head.task("true", 1), head.task("true", 2)
    head.send(run(places(1, 1), [first, second]))
    head.wait(lambda: head.freed)
    assert set(head.ended) == {first.id}
    head.send(run(places(1, 2), []))
    head.wait(lambda: second.id in head.ended)


def test_a_place_without_a_task_comes_back(head: Head) -> None:
    granted = places(3)
    head.send(run(granted, []))
    head.wait(lambda: sorted(head.freed) == [place.id for place in granted])


def test_what_cannot_start_is_told_and_its_place_goes_on(head: Head) -> None:
    bad, good = head.task("true"), head.task("true")
    bad.argv = ["/no/such/program"]
    head.send(run(places(1), [bad, good]))
    head.wait(lambda: head.freed)
    assert (head.ended[bad.id].pid, bad.id in head.started) == (0, False)
    assert head.ended[bad.id].message == "program /no/such/program does not exist"
    assert head.ended[good.id].exit_code == 0


def test_tasks_that_wait_are_recalled_and_those_that_run_go_on(head: Head) -> None:
    running = head.task("while [ ! -e go ]; do sleep 0.02; done")
    waiting = [head.task("true") for _ in range(3)]
    head.send(run(places(1), [running, *waiting]))
    head.wait(lambda: head.started)
    head.send(Recall())
    head.wait(lambda: sorted(head.returned) == [task.id for task in waiting])
    Path(running.cwd, "go").touch()
    head.wait(lambda: head.freed)
    assert set(head.ended) == {running.id}


def test_as_many_are_recalled_as_asked_for_of_one_lane_the_last_first(head: Head) -> None:
    running = head.task("while [ ! -e go ]; do sleep 0.02; done")
    waiting = [head.task("true") for _ in range(4)]
    other = head.task("true", 2)
    head.send(run(places(1), [running, *waiting, other]))
    head.wait(lambda: head.started)
    head.send(Recall(1, 3))
    head.wait(lambda: len(head.returned) == 3)
    assert head.returned == [task.id for task in reversed(waiting[1:])]
    Path(running.cwd, "go").touch()
    head.wait(lambda: head.freed)
    assert set(head.ended) == {running.id, waiting[0].id}


def test_a_warning_is_a_signal_to_the_program(head: Head) -> None:
    text = "trap 'echo warned; exit 3' USR1; echo ready; while :; do sleep 0.02; done"
    task = head.task(text)
    head.send(run(places(1), [task]))
    head.wait(lambda: "ready" in head.output(task))
    head.send(Warn([task.id, 4711], signal.SIGUSR1))
    head.wait(lambda: head.freed)
    assert head.output(task).split()[-1] == "warned"
    assert head.ended[task.id].exit_code == 3


def test_a_task_says_which_place_it_has(head: Head) -> None:
    granted, task = places(1), head.task("true")
    head.send(run(granted, [task]))
    head.wait(lambda: head.freed)
    assert head.started[task.id].place == granted[0].id


def test_a_task_is_bound_to_the_cpus_of_its_place_and_no_other_is(head: Head) -> None:
    cpu = max(os.sched_getaffinity(0))
    bound, free = head.task("grep Cpus_allowed_list /proc/self/status"), head.task("nproc", 2)
    place = Place(next(numbers), 1, cpus=[cpu])
    head.send(run([place, *places(1, 2)], [bound, free]))
    head.wait(lambda: len(head.freed) == 2)
    assert head.output(bound).split()[-1] == str(cpu)
    assert int(head.output(free)) == len(os.sched_getaffinity(0))


def test_what_a_run_left_is_swept_by_its_variables(head: Head) -> None:
    left = head.task(
        "setsid sh -c 'echo $$; exec sleep 1000' > pid & until [ -s pid ]; do sleep 0.02; done;"
        " cat pid; exit 1"
    )
    left.environ, mark = {"RUN": "7"}, {"MARK": "m", "RUN": "7"}
    head.send(run(places(1), [left]))
    head.wait(lambda: head.freed)
    pid = int(head.output(left).split()[0])
    assert is_running(pid)
    head.send(Sweep(mark | {"RUN": "8"}))
    other = head.task("true")
    head.send(run(places(1), [other]))  # goes after the sweep
    head.wait(lambda: other.id in head.ended)
    assert is_running(pid)
    head.send(Sweep(mark))
    wait_until(lambda: not is_running(pid))


def test_a_wide_node_has_several_spawners_that_end_together(tmp_path: Path) -> None:
    head = Head(tmp_path, cores=64)
    assert sorted(hello.spawner for _, hello in head.hello) == [0, 1]
    assert {hello.node.cores for _, hello in head.hello} == {64}
    tasks = [head.task("sleep 1000", lane) for lane in (1, 2)]
    for (name, _), task in zip(head.hello, tasks, strict=True):
        head.links.send(name, run(places(1, task.lane), [task]))
    head.wait(lambda: len(head.started) == 2)
    pids = [started.pid for started in head.started.values()]
    os.kill(head.hello[0][1].pid, signal.SIGKILL)  # no half a worker goes on
    wait_until(lambda: head.process.poll() is not None)
    assert head.process.returncode == -signal.SIGKILL or head.process.returncode > 0
    assert not any(map(is_running, pids))
    head.close()


def test_a_worker_without_word_of_its_head_leaves_what_it_knows_and_ends(tmp_path: Path) -> None:
    head = Head(tmp_path, silence_seconds=3.0)
    done, running = head.task("exit 4"), head.task("sleep 1000", 2)
    head.send(run([*places(1), *places(1, 2)], [done, running]))  # and no beat
    head.wait(lambda: running.id in head.started)
    pid = head.started[running.id].pid
    wait_until(lambda: head.process.poll() is not None)
    assert not is_running(pid)
    file = Path(last_words_file(str(tmp_path), "here", 0))
    words = last_words.decode(file.read_bytes())
    assert [w.number for w in words] == list(range(1, len(words) + 1))  # none was heard
    assert [(e.task, e.exit_code) for w in words for e in w.ended] == [(done.id, 4)]
    head.close()


def test_what_the_head_has_heard_is_not_said_again(tmp_path: Path) -> None:
    head = Head(tmp_path, silence_seconds=3.0)
    done = head.task("true")
    head.send(run(places(1), [done]))
    head.wait(lambda: head.freed)
    head.links.beat(time.time())
    wait_until(lambda: head.process.poll() is not None)
    words = last_words.decode(Path(last_words_file(str(tmp_path), "here", 0)).read_bytes())
    assert [e for w in words for e in w.ended] == []
    head.close()


def test_a_worker_whose_head_is_gone_ends_at_once(tmp_path: Path) -> None:
    """The connection tells, long before the silence would."""
    head = Head(tmp_path, silence_seconds=3600.0)
    task = head.task("sleep 1000")
    head.send(run(places(1), [task]))
    head.wait(lambda: head.started)
    pid = head.started[task.id].pid
    head.links.close()
    wait_until(lambda: head.process.poll() is not None)
    assert not is_running(pid)


def test_killing_ends_what_runs_and_gives_back_what_waits(head: Head) -> None:
    running = head.task("trap '' TERM; echo ready; while :; do sleep 0.02; done")
    killed, kept = head.task("true"), head.task("true")
    head.send(run(places(1), [running, killed, kept]))
    head.wait(lambda: "ready" in head.output(running))
    head.send(Kill([running.id, killed.id], 0.2))
    head.wait(lambda: head.freed)
    assert head.ended[running.id].exit_code == -signal.SIGKILL
    assert head.returned == [killed.id]
    assert head.ended[kept.id].exit_code == 0
    head.send(Kill([running.id, 4711], 0.2))  # has ended; never was: no harm
    head.send(run(places(1), [head.task("true")]))
    head.wait(lambda: len(head.freed) == 2)


def test_the_environment_is_the_launcher_s(head: Head) -> None:
    task = head.task("echo $MARK $0")
    head.send(run(places(1), [task]))
    head.wait(lambda: head.freed)
    assert head.output(task).split()[0] == "m"


def test_a_worker_that_ends_kills_what_runs(head: Head) -> None:
    task = head.task("trap '' TERM; echo ready $$; while :; do sleep 0.02; done")
    head.send(run(places(1), [task]))
    head.wait(lambda: "ready" in head.output(task))
    pid = int(head.output(task).split()[1])
    head.send(Stop())
    wait_until(lambda: head.process.poll() is not None)
    assert head.process.returncode == 0
    assert not is_running(pid)


def test_signals_to_the_whole_group_are_the_head_s_to_act_on(head: Head) -> None:
    """Batch systems and terminals send them to all. To jobs they come as to any program."""
    running = head.task("echo ready; grep SigIgn /proc/self/status; read line < gate; exit 5")
    Path(running.cwd).mkdir()
    os.mkfifo(Path(running.cwd, "gate"))
    head.send(run(places(1), [running]))
    head.wait(lambda: "SigIgn" in head.output(running))
    for pid in (head.process.pid, head.hello[0][1].pid):
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
    Path(running.cwd, "gate").write_text("go\n")
    head.wait(lambda: head.freed)
    assert head.ended[running.id].exit_code == 5
    standard = (1 << 31) - 1
    assert int(head.output(running).split()[-1], 16) & standard == 0


def test_only_who_has_the_launch_s_secret_is_let_in(head: Head) -> None:
    """Fault S5: a port that runs commands is closed to all others."""
    endpoint = head.links.socket.getsockopt_string(zmq.LAST_ENDPOINT)
    context = zmq.Context()
    public, secret = zmq.curve_keypair()
    for keys in (None, (public, secret)):
        stranger = context.socket(zmq.DEALER)
        stranger.linger = 0
        if keys:
            stranger.curve_publickey, stranger.curve_secretkey = keys
            stranger.curve_serverkey = head.links.keys.server.encode()
        monitor = stranger.get_monitor_socket()
        stranger.connect(endpoint)
        refused = (
            zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_DISCONNECTED
        )
        seen: list[int] = []

        def closed(monitor: Any = monitor, seen: list[int] = seen, refused: int = refused) -> bool:
            while monitor.poll(0):
                seen.append(recv_monitor_message(monitor)["event"])
            return any(event & refused for event in seen)

        wait_until(closed, lambda seen=seen: seen)
        assert zmq.EVENT_HANDSHAKE_SUCCEEDED not in seen
        stranger.disable_monitor()
        stranger.close()
        monitor.close()
    context.term()
    head.send(run(places(1), [head.task("true")]))
    head.wait(lambda: head.freed)
    assert len(head.hello) == 1


def test_a_worker_whose_head_is_not_there_ends_when_its_starter_dies(tmp_path: Path) -> None:
    """The guardian sees the death of whoever started it."""
    public, _ = zmq.curve_keypair()
    mine = zmq.curve_keypair()
    links = Links(["localhost"])
    file = tmp_path / "invitation"
    fields = {
        "endpoints": ["tcp://127.0.0.1:9"],
        "server_key": public.decode(),
        "public_key": mine[0].decode(),
        "secret_key": mine[1].decode(),
    }
    write_invitation(invitation(tmp_path, links, **fields), file)
    links.close()
    starter = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-m',"
        f" 'balsam.launcher.worker', {str(file)!r}]); print(p.pid, flush=True); p.wait()"
    )
    process = Popen([sys.executable, "-c", starter], stdout=PIPE)
    assert process.stdout is not None
    guardian = int(process.stdout.readline())
    process.stdout.close()
    children = Path(f"/proc/{guardian}/task/{guardian}/children")
    (worker,) = wait_until(lambda: children.read_text().split())
    process.kill()
    process.wait()
    wait_until(lambda: not is_running(guardian) and not is_running(int(worker)))
