"""From a WfFormat workflow to apps and jobs, and the program that stands for a task."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.errors import InvalidInput, InvalidResources
from balsam.model.app import command_line, split_words
from balsam.model.job import check_name
from balsam.wfformat import synthetic_task
from balsam.wfformat.campaign import Scale, commands, synthetic
from balsam.wfformat.names import file_name, plain_names
from balsam.wfformat.workflow import read
from tests.unit.wfformat.documents import diamond, encoded

SCALE = Scale(time=0.5, size=0.1)


def test_synthetic_jobs_have_times_resources_and_files() -> None:
    found = synthetic(read(encoded(diamond())), "", SCALE, "/usr/bin/python3")
    assert found.workflow == "diamond"
    assert [app.name for app in found.apps] == [
        "diamond.join", "diamond.left", "diamond.right", "diamond.split"
    ]  # fmt: skip
    join, left, right, split = found.jobs
    assert (left.name, left.application, left.tags) == (
        "left_1",
        "diamond.left",
        {"task": "left_1"},
    )
    assert (left.threads_per_rank, left.memory_mib, left.priority) == (2, 4, 7)
    assert (left.wall_time_minutes, right.wall_time_minutes) == (1.0, 0.0)
    assert (join.parents, left.parents, split.parents) == ([-2, -3], [-4], [])
    assert split_words(left.args) == ["60", "2", "--read", "1:s", "--write", "2:a"]
    assert split_words(join.args)[2:] == [
        "--read", "2:a", "3:b", "--given", "100:in", "--write", "0:out"
    ]  # fmt: skip
    words = command_line(found.apps[0], join.args, {})
    assert words[:5] == [
        "/usr/bin/python3", "-I", "-S", synthetic_task.__file__, "data/diamond/files"
    ]  # fmt: skip


def test_resources_can_be_left_out() -> None:
    scale = Scale(resources=False)
    found = synthetic(read(encoded(diamond())), "", scale, "python3")
    assert {(job.threads_per_rank, job.memory_mib) for job in found.jobs} == {(1, 0)}


def with_commands(**arguments: list[str]) -> bytes:
    """A diamond in which each task has a program of its name, and arguments that are given."""
    document = diamond()
    document["workflow"]["execution"]["tasks"] = [
        {
            "id": f"{name}_1",
            "runtimeInSeconds": 1,
            "command": {"program": f"/bin/{name}", "arguments": arguments.get(name, [])},
        }
        for name in ("join", "left", "right", "split")
    ]
    return encoded(document)


def test_commands_get_their_arguments_as_a_shell_would_split_them(tmp_path: Path) -> None:
    content = with_commands(left=["-n 3", "--title 'a b'", "{{x}}", "~", "$HOME"])
    found = commands(read(content), "w", Scale(), tmp_path)
    app, job = found.apps[1], found.jobs[1]
    words = ["/bin/left", "-n", "3", "--title", "a b", "{{x}}", "~", "$HOME"]
    assert command_line(app, job.args, job.parameters) == words
    assert job.user_workdir == str(tmp_path)
    (note,) = found.notes
    assert "1 of the files that no task writes are not in" in note
    assert "'in'" in note


def test_what_only_a_shell_understands_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").touch()
    found = commands(read(with_commands(split=["a", "> b"])), "", Scale(), tmp_path)
    (note,) = found.notes
    assert "first: task 'split_1'" in note


def test_a_task_without_command_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"specification.tasks\[0\].command: task 'join_1' has no"
    ):
        commands(read(encoded(diamond())), "", Scale(), tmp_path)


def test_a_program_may_come_with_arguments_but_not_be_a_script(tmp_path: Path) -> None:
    (tmp_path / "in").touch()
    workflow = read(with_commands(left=["-v"]))
    workflow.tasks[1].program = "/bin/left --fast 'a b'"
    found = commands(workflow, "", Scale(), tmp_path)
    words = command_line(found.apps[1], found.jobs[1].args, {})
    assert words == ["/bin/left", "--fast", "a b", "-v"]
    workflow.tasks[1].program = "cat a \\\n  b > c\nrm a"
    with pytest.raises(InvalidInput, match=r"tasks\[1\].command: .* a script of several lines"):
        commands(workflow, "", Scale(), tmp_path)


def test_an_argument_that_cannot_be_split_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"tasks\[2\].command.arguments\[1\]: cannot split"):
        commands(read(with_commands(right=["a", "it's"])), "", Scale(), tmp_path)


def test_what_no_job_can_ask_for_is_told_with_its_path() -> None:
    document = diamond()
    document["workflow"]["execution"]["tasks"][1]["coreCount"] = 1e6
    with pytest.raises(
        InvalidResources, match=r"execution.tasks\[1\]: threads_per_rank is 1000000"
    ):
        synthetic(read(encoded(document)), "", Scale(), "python3")


def test_files_beyond_a_command_line_are_told() -> None:
    document = diamond()
    specification = document["workflow"]["specification"]
    names = [f"{'x' * 190}{n}" for n in range(8000)]
    specification["files"] += [{"id": name, "sizeInBytes": 1} for name in names]
    specification["tasks"][3]["outputFiles"] += names
    with pytest.raises(InvalidInput, match=r"tasks\[3\]: task 'split_1' has 8002 files"):
        synthetic(read(encoded(document)), "", Scale(), "python3")


@pytest.mark.parametrize("name", ["{{a}}", "../up", "a//b"])
def test_a_workflow_needs_a_name_that_is_a_path(name: str) -> None:
    with pytest.raises(InvalidInput, match="workflow"):
        synthetic(read(encoded(diamond())), name, Scale(), "python3")


@given(st.lists(st.text(min_size=1), max_size=20))
def test_any_text_becomes_a_name_of_a_job_and_all_differ(texts: list[str]) -> None:
    names = plain_names([*texts, "a/b", "a_b", "a_b_2", "a b", "..", "é" * 150, "é" * 151])
    for name in names:
        check_name(name)
    assert len(set(names)) == len(names)


@given(st.lists(st.text(min_size=1), unique=True, max_size=20))
def test_any_text_becomes_a_name_of_a_file_and_all_differ(texts: list[str]) -> None:
    texts = [text for text in texts if text.isprintable()]
    for long in ("../a", ".", "..", "/a/b", "http://x/y?z", "x" * 300, "x" * 301):
        texts.append(long)
    names = {file_name(text) for text in texts}
    assert len(names) == len(set(texts))
    for name in names:
        assert "/" not in name
        assert not name.startswith(".")
        assert len(name.encode()) <= 200


# the program ------------------------------------------------------------------------------


def run(site: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", synthetic_task.__file__, "data/w", *shlex.split(arguments)],
        env={**os.environ, "BALSAM_SITE": str(site)},
        capture_output=True,
        text=True,
    )


def test_a_task_makes_what_is_given_and_writes_its_files(tmp_path: Path) -> None:
    done = run(tmp_path, "0 2 --given 3:in --write 1048577:out 0:empty")
    assert (done.returncode, done.stderr) == (0, "")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "data/w").iterdir()}
    assert sizes == {"in": 3, "out": 1048577, "empty": 0}


def test_a_task_keeps_all_its_cores_busy(tmp_path: Path) -> None:
    before = os.times()
    assert run(tmp_path, "0.2 2").returncode == 0
    after = os.times()
    assert after.elapsed - before.elapsed >= 0.2
    assert after.children_user + after.children_system > before.children_user


def test_a_task_fails_when_a_file_is_missing_or_has_another_size(tmp_path: Path) -> None:
    directory = tmp_path / "data/w"
    directory.mkdir(parents=True)
    (directory / "half").write_text("abc")
    done = run(tmp_path, "0 1 --read 6:half 1:lost --write 1:out")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{directory}/half has 3 bytes instead of 6",
        f"{directory}/lost is missing",
    ]
    assert not (directory / "out").exists()
