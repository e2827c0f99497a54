"""This machine as a batch system: real requests, killed in all ways."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from balsam.errors import SchedulerAway, SchedulerError, SchedulerRefused
from balsam.model.batch_job import BatchState
from balsam.schedulers.command import Command
from balsam.schedulers.local import Local
from balsam.schedulers.local_processes import MARK
from balsam.schedulers.scheduler import Status, Submission
from tests.integration.conftest import is_running, wait_until

QUEUES = "grace_seconds = 30\n[[queue]]\nname = 'q'\n"


class Machine:
    """The batch system of a user of this machine."""

    def __init__(self, path: Path, home: Path) -> None:
        self.path = path
        self.state = home / "local"
        self.state.mkdir(parents=True)
        self.limit(QUEUES)
        self.local = Local()

    @property
    def run(self) -> Command:
        """Runs commands with the environment as it is now."""
        return Command(60.0, dict(os.environ))

    def limit(self, text: str) -> None:
        (self.state / "queues.toml").write_text(text)

    def submit(self, name: str, body: str, *flags: str, minutes: int = 10) -> str:
        """Submit a script for bash; what it writes comes into NAME.out."""
        script = self.path / name
        script.write_text(f"#!/bin/bash\n{body}\n")
        return self.local.submit(
            self.run,
            Submission(
                name=name,
                script=str(script),
                output=str(self.path / f"{name}.out"),
                directory=str(self.path),
                num_nodes=1,
                minutes=minutes,
                flags=flags,
            ),
        )

    def status(self, number: str) -> Status:
        return self.local.status(self.run, [number])[number]

    def wait(self, number: str, state: BatchState) -> Status:
        """Wait until a request is in *state*; the last word on it."""
        wait_until(lambda: self.status(number).state == state, lambda: self.tell(number))
        return self.status(number)

    def wait_for(self, name: str, text: str) -> str:
        """Wait until a script has written *text*; return all it wrote."""
        file = self.path / f"{name}.out"
        wait_until(lambda: file.exists() and text in file.read_text(), lambda: os.listdir("."))
        return file.read_text()

    def keeper(self, number: str) -> psutil.Process:
        record = json.loads((self.state / "live" / f"{number}.json").read_bytes())
        return psutil.Process(record["keeper"])

    def tell(self, number: str) -> str:
        return f"{self.status(number)}\n{(self.state / 'keeper.log').read_text()}"

    def stop(self) -> None:
        """End all requests."""
        self.limit("grace_seconds = 0\n")
        live = [file.stem for file in (self.state / "live").glob("*.json")]
        self.local.cancel(self.run, live)
        for number in live:
            wait_until(lambda number=number: self.status(number).ended_at)

    def change(self, number: str, **fields: object) -> None:
        """Write into the record of a request."""
        file = self.state / "live" / f"{number}.json"
        file.write_text(json.dumps(json.loads(file.read_bytes()) | fields))


@pytest.fixture
def machine(tmp_path: Path, balsam_home: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path, balsam_home)
    yield machine
    machine.stop()


def pids(text: str) -> list[int]:
    return [int(word) for word in text.split() if word.isdecimal()]


#: Starts three that sleep: a child, one in a session of its own, and a daemon that has forgotten
#: all its variables; and writes their numbers.
SLEEPERS = """\
sleep 600 & echo $!
setsid sleep 600 & echo $!
(env -i setsid sh -c 'echo $$; exec sleep 600' &)
"""


def sleepers(machine: Machine, name: str) -> list[int]:
    file = machine.path / f"{name}.out"
    return wait_until(lambda: file.exists() and len(found := pids(file.read_text())) == 3 and found)


def test_one_after_the_other(machine: Machine) -> None:
    first = machine.submit("first", "read < fifo; exit 3")
    os.mkfifo(machine.path / "fifo")
    second = machine.submit("second", "echo $PWD; cat; echo done")
    waits = machine.status(second)
    assert (waits.state, waits.reason) == (
        BatchState.QUEUED,
        f"this machine is busy with request {first}",
    )
    assert waits.starts_at is not None
    assert machine.local.windows(machine.run) == []
    assert machine.local.history(machine.run, [first]) == {}
    machine.local.cancel(machine.run, [first])
    machine.wait(second, BatchState.FINISHED)
    assert (machine.path / "second.out").read_text() == f"{machine.path}\ndone\n"
    ended = machine.local.history(machine.run, [first, second, "77", "x"])
    assert set(ended) == {first, second}
    assert ended[second].exit_code == 0
    assert ended[first].ended_at <= ended[second].started_at
    assert [each.num_nodes for each in machine.local.windows(machine.run)] == [1]


def test_an_exit_code(machine: Machine) -> None:
    ended = machine.wait(machine.submit("job", "exit 3"), BatchState.FAILED)
    assert (ended.exit_code, ended.reason) == (3, "exit code 3")


def test_nothing_is_left_of_it(machine: Machine) -> None:
    job = machine.submit("job", f"{SLEEPERS} sleep 0.5")
    left = sleepers(machine, "job")
    machine.wait(job, BatchState.FINISHED)
    assert not any(map(is_running, left))


def test_its_time_is_over(machine: Machine) -> None:
    """It is told to end, and has the time for it."""
    body = f"{SLEEPERS} trap 'echo told; kill -9 {{1..2}}; touch saved; exit 0' TERM; wait"
    body = body.replace("{1..2}", "%1")
    job = machine.submit("job", body, "--minutes=0.02")
    left = sleepers(machine, "job")
    machine.limit("grace_seconds = 1\n[[queue]]\nname = 'q'\n")
    ended = machine.wait(job, BatchState.TIMEOUT)
    assert ended.reason == "ended after its 0.02 minutes"
    assert (machine.path / "saved").exists()
    assert not any(map(is_running, left))


def test_one_that_does_not_want_to_end(machine: Machine) -> None:
    machine.limit("grace_seconds = 0.2\n[[queue]]\nname = 'q'\n")
    job = machine.submit("job", "trap '' TERM; echo $$; sleep 600", "--minutes=0.02")
    ended = machine.wait(job, BatchState.TIMEOUT)
    assert ended.exit_code == -signal.SIGKILL
    assert not any(map(is_running, pids(machine.wait_for("job", "\n"))))


def test_what_the_script_started_has_its_grace_too(machine: Machine) -> None:
    """bash dies of SIGTERM before the program that it runs has ended well."""
    program = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5),"
    program += " print('well'), exit())); print('ready', flush=True); time.sleep(600)"
    job = machine.submit("job", f'{sys.executable} -c "{program}"; echo never')
    machine.wait_for("job", "ready")
    machine.local.cancel(machine.run, [job])
    ended = machine.wait(job, BatchState.CANCELLED)
    assert (machine.path / "job.out").read_text() == "ready\nwell\n"
    assert ended.exit_code == -signal.SIGTERM


def test_cancelled_while_it_waits(machine: Machine) -> None:
    first = machine.submit("first", "sleep 600")
    second = machine.submit("second", "echo never")
    machine.local.cancel(machine.run, [second, second, "99"])
    machine.local.cancel(machine.run, [second])
    ended = machine.status(second)
    assert (ended.state, ended.started_at) == (BatchState.CANCELLED, None)
    assert ended.reason == "cancelled before it started"
    assert machine.status(first).state == BatchState.RUNNING
    assert not (machine.path / "second.out").exists()


def test_cancelled_while_it_runs(machine: Machine) -> None:
    job = machine.submit("job", "trap 'touch told' TERM; echo ready; while :; do sleep 0.1; done")
    machine.wait_for("job", "ready")
    machine.local.cancel(machine.run, [job])
    machine.local.cancel(machine.run, [job])
    assert machine.status(job).state == BatchState.ENDING
    wait_until((machine.path / "told").exists)
    # It goes on for its grace, which nobody waits for here.
    machine.keeper(job).children()[0].kill()
    assert machine.wait(job, BatchState.CANCELLED).reason == "cancelled while it ran"


def test_ended_as_soon_as_it_starts(machine: Machine) -> None:
    """The process that runs it may not listen yet; those that wait start by themselves."""
    machine.limit("max_running = 0\n")
    first = machine.submit("first", "sleep 600")
    machine.submit("second", "touch ran")
    machine.limit("grace_seconds = 0\n")
    assert machine.status(first).state == BatchState.RUNNING
    machine.keeper(first).terminate()
    wait_until((machine.path / "ran").exists)


def test_its_script_is_killed(machine: Machine) -> None:
    job = machine.submit("job", f"{SLEEPERS} kill -9 $$")
    ended = machine.wait(job, BatchState.FAILED)
    assert (ended.exit_code, ended.reason) == (-signal.SIGKILL, "killed by SIGKILL")
    assert not any(map(is_running, pids(machine.wait_for("job", "\n"))))


def test_its_keeper_is_killed(machine: Machine) -> None:
    """What it left is ended, nothing runs twice, and those that wait go on."""
    job = machine.submit(
        "job", "echo start >> starts; sleep 600 & setsid sleep 600 & echo $! $$; wait"
    )
    waits = machine.submit("waits", "echo start >> starts")
    left = pids(machine.wait_for("job", "\n"))
    keeper = machine.keeper(job)
    keeper.kill()
    wait_until(lambda: not is_running(keeper.pid))
    assert all(map(is_running, left))
    ended = machine.status(job)
    assert (ended.state, ended.reason) == (BatchState.FAILED, "the process that ran it was killed")
    assert not any(map(is_running, left))
    machine.wait(waits, BatchState.FINISHED)
    assert (machine.path / "starts").read_text() == "start\nstart\n"


def test_its_keeper_is_killed_as_it_is_cancelled(machine: Machine) -> None:
    job = machine.submit("job", "trap '' TERM; echo ready; sleep 600")
    machine.wait_for("job", "ready")
    machine.local.cancel(machine.run, [job])
    keeper = machine.keeper(job)
    keeper.kill()
    wait_until(lambda: not is_running(keeper.pid))
    assert machine.status(job).state == BatchState.CANCELLED


def test_its_keeper_is_told_to_end(machine: Machine) -> None:
    job = machine.submit("job", "echo ready; sleep 600")
    machine.wait_for("job", "ready")
    machine.keeper(job).terminate()
    assert "SIGTERM" in machine.wait(job, BatchState.FAILED).reason


def test_a_keeper_that_nobody_knows_of_runs_nothing(machine: Machine) -> None:
    """Its starter died before it wrote its number down."""
    first = machine.submit("first", "sleep 600")
    second = machine.submit("second", "echo start >> starts")
    held = os.open(machine.state / "keepers" / second, os.O_RDWR | os.O_CREAT)
    words = ["-m", "balsam.schedulers.local_keeper", str(machine.state), second, str(held)]
    subprocess.run([sys.executable, *words], pass_fds=[held], check=True, timeout=60)
    os.close(held)
    assert machine.status(second).state == BatchState.QUEUED
    machine.local.cancel(machine.run, [first])
    machine.wait(second, BatchState.FINISHED)
    assert (machine.path / "starts").read_text() == "start\n"


def test_the_machine_was_restarted(machine: Machine) -> None:
    job = machine.submit("job", "echo ready; exec sleep 600")
    waits = machine.submit("waits", "true")
    machine.wait_for("job", "ready")
    keeper = machine.keeper(job)
    script = keeper.children()[0]
    keeper.kill()
    script.kill()
    wait_until(lambda: not is_running(keeper.pid))
    machine.change(job, boot="an earlier one")
    machine.change(waits, boot="an earlier one")
    ended = machine.status(job)
    assert ended.state == BatchState.FAILED
    assert ended.reason == "the machine was restarted while it ran"
    machine.wait(waits, BatchState.FINISHED)


def test_another_machine_with_the_same_home(machine: Machine) -> None:
    """What runs there is not touched, and does not keep us from running."""
    there = machine.submit("there", "echo ready; exec sleep 600")
    later = machine.submit("later", "true")
    machine.wait_for("there", "ready")
    keeper = machine.keeper(there)
    script = keeper.children()[0]
    keeper.kill()
    script.kill()
    for number in (there, later):
        machine.change(number, host="there", boot="its")
    here = machine.submit("here", "true")
    machine.wait(here, BatchState.FINISHED)
    assert machine.status(there).state == BatchState.RUNNING
    assert machine.status(later).reason == "waits for its machine, there"
    with pytest.raises(SchedulerRefused, match="runs on there"):
        machine.local.cancel(machine.run, [there])
    (machine.state / "live" / f"{there}.json").unlink()


def test_many_submits_at_once(machine: Machine) -> None:
    """Each has its own id, runs once, and never two at a time."""
    body = "mkdir alone || echo both >> faults; echo $0 >> ran; rmdir alone"
    with ThreadPoolExecutor(4) as pool:
        jobs = list(pool.map(lambda n: machine.submit(f"job{n}", body), range(8)))
    assert sorted(map(int, jobs)) == list(range(1, 9))
    for job in jobs:
        machine.wait(job, BatchState.FINISHED)
    assert len(set((machine.path / "ran").read_text().splitlines())) == 8
    assert len((machine.path / "ran").read_text().splitlines()) == 8
    assert not (machine.path / "faults").exists()


def test_two_queues(machine: Machine) -> None:
    queues = "[[queue]]\nname = 'a'\nmax_running = 1\n[[queue]]\nname = 'b'\nmax_minutes = 5\n"
    machine.limit(f"max_running = 2\n{queues}")
    first = machine.submit("first", "echo ready; sleep 600")
    second = machine.submit("second", "true")
    third = machine.submit("third", "true", "--queue=b", minutes=5)
    machine.wait(third, BatchState.FINISHED)
    assert machine.status(second).reason == "queue 'a' runs 1 at a time"
    assert machine.status(first).queue == "a"
    with pytest.raises(SchedulerRefused, match="at most 5 minutes"):
        machine.submit("fourth", "true", "--queue=b", minutes=6)
    assert [each.name for each in machine.local.queues(machine.run)] == ["a", "b"]
    assert [each.queue for each in machine.local.windows(machine.run)] == ["b"]


def nested(machine: Machine, then: str) -> str:
    """The body of a script that submits another and says its id."""
    words = [sys.executable, "-P", "-m", "balsam.schedulers.local_queue", "submit", "--name=inner"]
    inner = machine.path / "inner"
    inner.write_text(f"#!/bin/sh\necho ${MARK}; read x < {machine.path}/go; echo done\n")
    words += [f"--script={inner}", f"--output={machine.path}/inner.out"]
    words += [f"--directory={machine.path}", "--minutes=5"]
    os.mkfifo(machine.path / "go")
    return f"{' '.join(words)}; {then}"


def test_a_request_from_within_a_request(machine: Machine) -> None:
    """It is not of the one that submitted it, and does not end with it."""
    machine.limit("max_running = 2\n")
    outer = machine.submit("outer", nested(machine, "true"))
    machine.wait(outer, BatchState.FINISHED)
    assert machine.wait_for("inner", "\n") == f"{machine.state}/2\n"
    assert machine.status("2").state == BatchState.RUNNING
    (machine.path / "go").write_text("\n")
    machine.wait("2", BatchState.FINISHED)


def test_a_request_from_within_one_whose_keeper_is_killed(machine: Machine) -> None:
    machine.limit("max_running = 2\n")
    outer = machine.submit("outer", nested(machine, "sleep 600"))
    machine.wait_for("inner", "\n")
    keeper = machine.keeper(outer)
    keeper.kill()
    wait_until(lambda: not is_running(keeper.pid))
    assert machine.status(outer).state == BatchState.FAILED
    assert machine.status("2").state == BatchState.RUNNING
    (machine.path / "go").write_text("\n")
    machine.wait("2", BatchState.FINISHED)


def test_what_a_script_is_given(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The submitter's variables, signals as usual, no input, and no open files of ours."""
    monkeypatch.setitem(os.environb, b"ODD", b"\xff \n'")
    (machine.path / "job.out").write_text("before\n")
    body = "printf '%s' \"$ODD\" | od -An -tx1; ls /proc/self/fd;"
    body += " grep -E 'Sig(Blk|Ign)' /proc/self/status"
    machine.wait(machine.submit("job", body), BatchState.FINISHED)
    told = (machine.path / "job.out").read_text().split()
    # 3 is the directory itself.
    assert told[:9] == ["before", "ff", "20", "0a", "27", "0", "1", "2", "3"]
    signals = {told[i].removesuffix(":"): int(told[i + 1], 16) for i in range(9, len(told), 2)}
    python_ignores = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert not signals["SigIgn"] & python_ignores
    assert not signals["SigBlk"]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"script": "/nowhere/job"}, "/nowhere/job: No such file"),
        ({"script": "/dev/null"}, "begin with #!"),
        ({"script": "job"}, "'job' is no absolute path"),
        ({"directory": "/nowhere"}, "no directory /nowhere"),
        ({"num_nodes": 2}, "this machine is 1 node"),
        ({"queue": "p"}, "no queue 'p'"),
        ({"flags": ("--exclusive",)}, "unrecognized arguments: --exclusive"),
    ],
)
def test_what_is_refused(machine: Machine, what: dict[str, object], told: str) -> None:
    script = machine.path / "job"
    script.write_text("#!/bin/sh\n")
    given = {"script": str(script), "output": "/o", "directory": "/", "num_nodes": 1} | what
    with pytest.raises(SchedulerRefused, match=told):
        machine.local.submit(machine.run, Submission(name="job", minutes=1, **given))
    assert not list(machine.state.glob("live/*"))


def test_what_cannot_be_started(machine: Machine) -> None:
    (machine.path / "bad.out").mkdir()
    bad = machine.wait(machine.submit("bad", "true"), BatchState.FAILED)
    assert bad.reason == f"it could not be started: {machine.path}/bad.out: Is a directory"
    script = machine.path / "lost"
    script.write_text("#!/nowhere/sh -e\n")
    given = {"script": str(script), "output": "/dev/null", "directory": "/"}
    submission = Submission(name="lost", num_nodes=1, minutes=1, **given)
    lost = machine.wait(machine.local.submit(machine.run, submission), BatchState.FAILED)
    assert lost.reason == "it could not be started: /nowhere/sh: No such file or directory"


def test_found_by_its_name(machine: Machine) -> None:
    first = machine.submit("twice", "true")
    machine.wait(first, BatchState.FINISHED)
    assert machine.local.find(machine.run, "twice") == first
    second = machine.submit("twice", "sleep 600")
    assert machine.local.find(machine.run, "twice") == second
    assert machine.local.find(machine.run, "thrice") is None


def test_it_remembers_the_last_thousand(machine: Machine) -> None:
    machine.wait(machine.submit("job", "true"), BatchState.FINISHED)
    text = (machine.state / "ended" / "1.json").read_text()
    for number in range(2, 1101):
        (machine.state / "ended" / f"{number}.json").write_text(
            text.replace('"id":1,', f'"id":{number},')
        )
    job = machine.submit("job", "true")
    assert job == "1101"
    machine.wait(job, BatchState.FINISHED)
    known = machine.local.history(machine.run, [str(number) for number in range(1102)])
    assert sorted(map(int, known)) == list(range(102, 1102))


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """The batch system of a user whose home is on a small disk."""
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    home = tmp_path / "small"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", home], check=True)
    monkeypatch.setenv("BALSAM_HOME", str(home))
    machine = Machine(tmp_path, home)
    yield machine
    (machine.state / "ballast").unlink(missing_ok=True)
    machine.stop()
    subprocess.run(["umount", home], check=True)


def fill(machine: Machine, spare: int = 0) -> None:
    """Leave room for so many pages of 4 KiB."""
    ballast = machine.state / "ballast"
    words = ["dd", "if=/dev/zero", f"of={ballast}", "bs=4096"]
    assert b"No space" in subprocess.run(words, capture_output=True).stderr
    os.truncate(ballast, ballast.stat().st_size - spare * 4096)


def test_a_full_disk(small: Machine, tmp_path: Path) -> None:
    """It is said, nothing is lost, and it goes on when there is room."""
    os.mkfifo(tmp_path / "go")
    first = small.submit("first", "read x < go; exit 4")
    keeper = small.keeper(first)
    fill(small)
    with pytest.raises(SchedulerAway, match=f"{small.state}.*No space left on device"):
        small.submit("second", "true")
    assert small.status(first).state == BatchState.RUNNING
    (tmp_path / "go").write_text("\n")
    wait_until(lambda: not is_running(keeper.pid))
    with pytest.raises(SchedulerAway, match="No space left on device"):
        small.status(first)
    (small.state / "ballast").unlink()
    assert small.status(first).state == BatchState.FAILED
    third = small.submit("third", "true")
    small.wait(third, BatchState.FINISHED)


def test_a_disk_that_is_full_when_a_request_starts(small: Machine, tmp_path: Path) -> None:
    """It was taken, and starts when there is room, once."""
    taken: list[Path] = []
    spare = 0
    while not taken:
        spare += 1
        fill(small, spare)
        with pytest.raises(SchedulerAway, match="No space left on device"):
            small.submit("job", "echo start >> starts")
        taken = list((small.state / "live").glob("*.json"))
    (number,) = [file.stem for file in taken]
    assert b'"state":"queued"' in taken[0].read_bytes()
    words = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not any(str(small.state) in each for each in words)
    (small.state / "ballast").unlink()
    small.wait(number, BatchState.FINISHED)
    assert (tmp_path / "starts").read_text() == "start\n"


def test_a_damaged_record(machine: Machine) -> None:
    job = machine.submit("job", "sleep 600")
    file = machine.state / "live" / f"{job}.json"
    text = file.read_text()
    file.write_text(text[:20])
    with pytest.raises(SchedulerError, match=f"{file} is not what Balsam wrote"):
        machine.status(job)
    file.write_text(text)


def test_queues_that_cannot_be_read(machine: Machine) -> None:
    """What runs ends well all the same."""
    os.mkfifo(machine.path / "go")
    job = machine.submit("job", "read x < go")
    machine.limit("[[queue\n")
    with pytest.raises(SchedulerError, match=r"queues\.toml"):
        machine.status(job)
    keeper = machine.keeper(job)
    (machine.path / "go").write_text("\n")
    wait_until(lambda: not is_running(keeper.pid))
    machine.limit(QUEUES)
    assert machine.status(job).state == BatchState.FINISHED


def test_a_home_that_cannot_be_used(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALSAM_HOME", "/dev/null")
    with pytest.raises(SchedulerAway, match="cannot use /dev/null: File exists"):
        machine.local.queues(machine.run)


def test_its_files_are_the_users_alone(machine: Machine) -> None:
    machine.submit("job", "sleep 600")
    (machine.state / "queues.toml").unlink()
    modes = {oct(path.stat().st_mode & 0o077) for path in machine.state.glob("*/*")}
    assert modes == {"0o0"}
