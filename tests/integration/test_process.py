"""Starting, watching and ending processes, without a launcher around them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from balsam.launcher.messages import Ended, Place, Started, Task
from balsam.launcher.process import Processes
from balsam.launcher.task_files import CannotStart
from tests.integration.conftest import is_running, wait_until

PLACE = Place(1, 1)
numbers = count(1)


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    monkeypatch.chdir(tmp_path)  # each start changes the working directory
    processes = Processes(str(tmp_path / "stream" / "worker"), time.time)
    yield processes
    processes.kill_all(0.0)
    wait_until(lambda: processes.reap() == [] and not len(processes))


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "job")


def task(directory: str, *argv: str, **fields: Any) -> Task:
    given: dict[str, Any] = {"environ": {}, "output": "job.out"} | fields
    return Task(id=next(numbers), lane=1, argv=list(argv), cwd=directory, **given)


def shell(directory: str, text: str, **fields: Any) -> Task:
    return task(directory, "/bin/sh", "-c", text, **fields)


def end_of(processes: Processes) -> Ended:
    """Wait for the end of the one process that runs."""
    found: list[Ended] = []

    def ended() -> bool:
        processes.force_overdue()
        found.extend(ended for ended, _ in processes.reap())
        return bool(found)

    wait_until(ended)
    return found[0]


def run(processes: Processes, task: Task, place: Place = PLACE) -> tuple[Started, Ended]:
    started = processes.start(task, place)
    return started, end_of(processes)


def output(task: Task) -> str:
    return Path(task.cwd, task.output).read_text()


# starting -----------------------------------------------------------------------------


def test_a_program_runs_in_its_own_group_with_nothing_of_ours(
    processes: Processes, directory: str
) -> None:
    work = shell(directory, "echo /proc/self/fd/*; grep SigIgn /proc/self/status; cat; echo done")
    started = processes.start(work, PLACE)
    assert os.getpgid(started.pid) == started.pid
    ended = end_of(processes)
    assert (ended.pid, ended.exit_code, ended.message) == (started.pid, 0, "")
    descriptors, ignored, last = output(work).splitlines()
    # 3 is what the shell itself reads the directory with
    assert {word.rsplit("/")[-1] for word in descriptors.split()} <= {"0", "1", "2", "3"}
    standard = (1 << 31) - 1
    assert int(ignored.split()[1], 16) & standard == 0
    assert last == "done"  # standard input was empty


def test_what_it_used_is_measured(processes: Processes, directory: str) -> None:
    program = "x = bytearray(60 << 20); sum(range(3_000_000))"
    _, ended = run(processes, task(directory, "/usr/bin/env", "python3", "-c", program))
    assert ended.exit_code == 0
    assert 60 < ended.peak_memory_mib < 500
    assert 0.01 < ended.cpu_seconds < 30


@pytest.mark.parametrize(
    ("text", "code"),
    [("exit 3", 3), ("kill -SEGV $$", -signal.SIGSEGV), ("kill -9 $$", -signal.SIGKILL)],
)
def test_exit_codes_and_signals(processes: Processes, directory: str, text: str, code: int) -> None:
    assert run(processes, shell(directory, text))[1].exit_code == code


def test_a_failure_comes_with_the_end_of_its_output(processes: Processes, directory: str) -> None:
    text = "seq 1000; echo oops >&2; exit 1"
    _, ended = run(processes, shell(directory, text))
    lines = ended.message.splitlines()
    assert lines[-2:] == ["1000", "oops"]
    assert len(lines) == 16


def test_output_of_a_second_attempt_is_appended(processes: Processes, directory: str) -> None:
    first, _ = run(processes, shell(directory, "echo first"))
    work = shell(directory, "echo second; exit 1", append=True)
    second, ended = run(processes, work)
    assert output(work) == "first\nsecond\n"
    assert (first.output_offset, second.output_offset) == (0, 6)
    assert (ended.output_size, ended.message) == (7, "second")


def test_a_directory_removed_since_the_first_attempt_is_made_again(
    processes: Processes, directory: str
) -> None:
    work = shell(directory, "pwd", append=True)
    run(processes, work)
    assert output(work).strip() == directory


def test_arguments_arrive_as_they_are(processes: Processes, directory: str) -> None:
    words = ["", "a  b", "$HOME", "*", "'", '"', "ä\n"]
    work = task(directory, "/usr/bin/printf", "%s|", *words)
    run(processes, work)
    assert output(work) == "|".join([*words, ""])


def test_a_program_is_found_in_the_path_of_its_job(
    processes: Processes, directory: str, tmp_path: Path
) -> None:
    """Fault A11: the path is whole."""
    for name in ("one", "two"):
        program = tmp_path / name / "prog"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho {name} $PATH\n")
        program.chmod(0o755)
    for name in ("one", "two", "one"):
        path = f"{tmp_path / name}:/usr/bin:/bin"
        work = task(directory, "prog", environ={"PATH": path}, output=f"{name}.out")
        run(processes, work)
        assert output(work).split() == [name, path]
        Path(work.cwd, work.output).unlink()


def test_a_program_that_moved_is_found_where_it_is_now(
    processes: Processes, directory: str, tmp_path: Path
) -> None:
    path = f"{tmp_path / 'one'}:{tmp_path / 'two'}:/usr/bin:/bin"
    (tmp_path / "two").mkdir()
    program = tmp_path / "one" / "prog"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    assert run(processes, task(directory, "prog", environ={"PATH": path}))[1].exit_code == 0
    program.rename(tmp_path / "two" / "prog")
    assert run(processes, task(directory, "prog", environ={"PATH": path}))[1].exit_code == 0


def test_a_relative_path_is_looked_up_in_each_job_s_own_directory(
    processes: Processes, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        program = tmp_path / name / "prog"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho {name}\n")
        program.chmod(0o755)
        work = task(str(tmp_path / name), "prog", environ={"PATH": ".:/usr/bin"})
        run(processes, work)
        assert output(work) == f"{name}\n"


def test_what_the_place_says_of_devices_holds(processes: Processes, directory: str) -> None:
    """Fault S4: a job cannot take a device that was given to another."""
    work = shell(directory, "echo $CUDA_VISIBLE_DEVICES", environ={"CUDA_VISIBLE_DEVICES": "0"})
    run(processes, work, Place(1, 1, {"CUDA_VISIBLE_DEVICES": "1"}))
    assert output(work) == "1\n"


# what cannot be started -----------------------------------------------------------------


def scripts(directory: Path) -> None:
    (directory / "no_x").write_text("#!/bin/sh\n")
    for name, text in (("no_head", "echo\n"), ("bad_head", "#!/no/such/interpreter\n")):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["/no/such/program"], "program /no/such/program does not exist"),
        (["no-such-program"], "program 'no-such-program' is not found in PATH (/"),
        (["{tmp}/no_x"], "{tmp}/no_x may not be executed"),
        (["{tmp}/no_head"], "{tmp}/no_head is no program: a script needs '#!'"),
        (["{tmp}/bad_head"], "{tmp}/bad_head: the interpreter in its first line does not exist"),
        (["{tmp}"], "{tmp} may not be executed"),
        (["/bin/echo", "a\0b"], "cannot start '/bin/echo': embedded null byte"),
        (["/bin/echo", "x" * 3_000_000], "the arguments of /bin/echo are too long"),
    ],
)
def test_the_reason_why_a_program_cannot_start(
    processes: Processes, directory: str, tmp_path: Path, argv: list[str], reason: str
) -> None:
    scripts(tmp_path)
    argv = [word.replace("{tmp}", str(tmp_path)) for word in argv]
    for fields in ({}, {"output": ""}):  # a file of its own, or the stream
        with pytest.raises(CannotStart) as error:
            processes.start(task(directory, *argv, **fields), PLACE)
        assert reason.replace("{tmp}", str(tmp_path)) in str(error.value)
    assert len(processes) == 0
    assert run(processes, shell(directory, "exit 0"))[1].exit_code == 0


def test_a_working_directory_of_the_user_s_must_exist(processes: Processes, tmp_path: Path) -> None:
    """Fault A13: nothing else is used in its place."""
    with pytest.raises(CannotStart, match=r"working directory .*/gone does not exist"):
        processes.start(shell(str(tmp_path / "gone"), "pwd", make_cwd=False), PLACE)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("append", [False, True])
def test_a_directory_that_cannot_be_made(
    processes: Processes, tmp_path: Path, append: bool
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/below", "link"):
        with pytest.raises(CannotStart, match=f"working directory .*{name}"):
            processes.start(shell(str(tmp_path / name), "pwd", append=append), PLACE)


def test_an_output_that_cannot_be_written(processes: Processes, directory: str) -> None:
    Path(directory, "job.out").mkdir(parents=True)
    for header in ("", "# header\n"):
        with pytest.raises(CannotStart, match=r"job\.out"):
            processes.start(shell(directory, "pwd", header=header), PLACE)


def test_an_environment_that_cannot_be(processes: Processes, directory: str) -> None:
    for environ in ({"A=B": "c"}, {"A": "b\0c"}, {"": "x"}):
        with pytest.raises(CannotStart):
            processes.start(shell(directory, "pwd", environ=environ), PLACE)


# the envscript --------------------------------------------------------------------------


def test_an_envscript_is_sourced_by_bash(
    processes: Processes, directory: str, tmp_path: Path
) -> None:
    """Fault L8. Its words are its own: it sees no arguments of ours."""
    script = tmp_path / "env.sh"
    script.write_text('declare -A map=([k]=v)\nexport FROM="${map[k]} $# $0"\n')
    work = task(directory, "/usr/bin/env", "sh", "-c", 'echo "$FROM|$1"', "sh", "a  b")
    work.envscript = str(script)
    started = processes.start(work, PLACE)
    ended = end_of(processes)
    assert (ended.exit_code, ended.pid) == (0, started.pid)
    assert output(work) == "v 0 balsam|a  b\n"


def test_an_envscript_that_fails_fails_the_run(
    processes: Processes, directory: str, tmp_path: Path
) -> None:
    script = tmp_path / "env.sh"
    script.write_text("echo no module of this name >&2\nreturn 5\n")
    _, ended = run(processes, shell(directory, "echo ran", envscript=str(script)))
    assert (ended.exit_code, ended.message) == (5, "no module of this name")


def test_a_missing_envscript_is_told(processes: Processes, directory: str) -> None:
    """Fault A13."""
    with pytest.raises(CannotStart, match=r"envscript /no/env\.sh does not exist"):
        processes.start(shell(directory, "pwd", envscript="/no/env.sh"), PLACE)


# ends -----------------------------------------------------------------------------------

READY = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def started_and_ready(processes: Processes, work: Task) -> Started:
    started = processes.start(work, PLACE)
    wait_until(lambda: "ready" in output(work))
    return started


def test_a_program_may_end_by_itself_in_the_time_of_grace(
    processes: Processes, directory: str
) -> None:
    work = shell(directory, READY)
    started_and_ready(processes, work)
    processes.kill(work.id, 60.0)
    assert end_of(processes).exit_code == 7


def test_a_program_that_ignores_the_request_is_killed(processes: Processes, directory: str) -> None:
    work = shell(directory, DEAF)
    started_and_ready(processes, work)
    asked = time.monotonic()
    processes.kill(work.id, 0.3)
    assert end_of(processes).exit_code == -signal.SIGKILL
    assert time.monotonic() - asked >= 0.3


def test_a_stopped_program_can_be_ended(processes: Processes, directory: str) -> None:
    work = shell(directory, READY)
    started = started_and_ready(processes, work)
    os.kill(started.pid, signal.SIGSTOP)
    processes.kill(work.id, 60.0)
    assert end_of(processes).exit_code == 7


def test_an_end_by_somebody_s_sigterm_is_told_once_the_task_is_asked_to_end(
    processes: Processes, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch system that ends all sends it to the task before its launcher is heard."""
    monkeypatch.setattr("balsam.launcher.process.TERM_SECONDS", 1000.0)
    sleeper = task(directory, "/bin/sleep", "1000")
    started = processes.start(sleeper, PLACE)
    os.kill(started.pid, signal.SIGTERM)
    wait_until(lambda: processes.reap() == [] and processes.some_are_ending)
    assert processes.reap() == []
    processes.kill(sleeper.id, 10.0)
    ((ended, place),) = processes.reap()
    assert (ended.exit_code, place) == (-signal.SIGTERM, PLACE)


def test_a_failure_while_all_are_told_to_end_is_kept_back_too(
    processes: Processes, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some programs catch SIGTERM and end with a code of their own."""
    monkeypatch.setattr("balsam.launcher.process.TERM_SECONDS", 1000.0)
    bad, good = shell(directory, "exit 1"), shell(directory, "exit 0")
    processes.note_term()
    processes.start(bad, PLACE)
    wait_until(lambda: processes.reap() == [] and processes.some_are_ending)
    started = processes.start(good, PLACE)
    ended = end_of(processes)
    assert (ended.exit_code, started.pid > 0) == (0, True)
    processes.kill(bad.id, 10.0)
    assert end_of(processes).exit_code == 1


def test_an_end_by_somebody_s_sigterm_is_told_after_a_while(
    processes: Processes, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balsam.launcher.process.TERM_SECONDS", 0.1)
    started = processes.start(task(directory, "/bin/sleep", "1000"), PLACE)
    os.kill(started.pid, signal.SIGTERM)
    assert end_of(processes).exit_code == -signal.SIGTERM


def test_a_task_may_not_take_longer_than_its_time(processes: Processes, directory: str) -> None:
    work = shell(directory, DEAF, seconds=0.3)
    _, ended = run(processes, work)
    assert ended.exit_code == -signal.SIGKILL
    assert ended.message.splitlines() == ["took longer than its 0.3 s", "ready"]


@pytest.mark.parametrize("end", ["exit 0", "kill -9 $$"])
def test_what_a_program_leaves_in_the_background_ends_with_it(
    processes: Processes, directory: str, end: str
) -> None:
    """Fault L5."""
    work = shell(directory, f"(trap '' TERM HUP; sleep 1000) & echo $!; {end}")
    run(processes, work)
    child = int(output(work))
    wait_until(lambda: not is_running(child))


def test_the_whole_group_is_asked_to_end(processes: Processes, directory: str) -> None:
    """Fault L5: a script's program hears of it too, and has its time of grace."""
    program = "trap 'sleep 0.3; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    work = shell(directory, f'sh -c "{program}"; true')
    started_and_ready(processes, work)
    processes.kill(work.id, 60.0)
    end_of(processes)
    assert "saved" in output(work)


# the stream -----------------------------------------------------------------------------


def test_tasks_that_run_at_the_same_time_write_to_files_of_their_own(
    processes: Processes, directory: str
) -> None:
    text = "for i in 1 2 3 4 5; do echo $0 $i; sleep 0.01; done"
    work = [
        task(directory, "/bin/sh", "-c", text, name, output="") for name in ("a", "b", "c", "d")
    ]
    started: dict[int, Started] = {}
    ended: dict[int, Ended] = {}

    def reap() -> int:
        ended.update({one.task: one for one, _ in processes.reap()})
        return len(ended)

    for one in work[:2]:
        started[one.id] = processes.start(one, PLACE)
    wait_until(lambda: reap() == 2)
    for one in work[2:]:
        started[one.id] = processes.start(one, PLACE)
    wait_until(lambda: reap() == 4)
    assert len({one.output_file for one in started.values()}) == 2
    for one in work:
        where, size = started[one.id], ended[one.id].output_size
        text = Path(where.output_file).read_text()
        mine = text[where.output_offset : where.output_offset + size]
        assert mine == "".join(f"{one.argv[3]} {i}\n" for i in range(1, 6))


def test_what_has_ended_holds_no_descriptor(processes: Processes, directory: str) -> None:
    """Fault L5."""
    kinds: tuple[dict[str, Any], ...] = (
        {},
        {"output": ""},
        {"header": "# hook\n", "output": "hook.log"},
    )
    held = []
    for _ in range(4):
        for fields in kinds:
            run(processes, shell(directory, "exit 1", **fields))
        with pytest.raises(CannotStart):
            processes.start(task(directory, "/no/such/program"), PLACE)
        held.append(len(os.listdir("/proc/self/fd")))
    assert held[1:] == held[:1] * 3


def test_psutil_sees_the_end(processes: Processes, directory: str) -> None:
    """What ended was reaped: there is no zombie."""
    started, _ = run(processes, shell(directory, "exit 0"))
    assert not psutil.pid_exists(started.pid)
