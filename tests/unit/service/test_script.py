"""What a batch job asks for, and the command of its launcher."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from balsam.errors import InvalidInput
from balsam.model.batch_job import BatchJob
from balsam.schedulers.command import SETTINGS
from balsam.schedulers.local import Local
from balsam.service import script, template

SITE = Path("/sites/my site")


def batch_job(**given: object) -> BatchJob:
    fields = {"id": 7, "name": "b7", "num_nodes": 1, "wall_time_minutes": 30.0}
    return BatchJob(**{**fields, **given})


@pytest.mark.parametrize(
    ("minutes", "limit"),
    [(60, 58), (21, 19), (20, 19), (10, 9), (2, 1), (1.5, 0.75), (1, 0.5), (1440, 1438)],
)
def test_the_launcher_ends_first(minutes: float, limit: float) -> None:
    assert script.time_limit(minutes) == limit


def test_what_is_asked_for() -> None:
    job = batch_job(
        queue="q", project="p", wall_time_minutes=29.5, scheduler_flags="-x 'a b' --y=1"
    )
    asked = script.submission(SITE, job, cores_per_node=4, gpus_per_node=1)
    assert asked.script == "/sites/my site/qsubmit/qlaunch7.sh"
    assert asked.output == "/sites/my site/qsubmit/qlaunch7.out"
    assert asked.directory == "/sites/my site"
    assert asked.minutes == 30
    assert asked.flags == ("-x", "a b", "--y=1")
    assert (asked.queue, asked.project, asked.name) == ("q", "p", "b7")
    assert (asked.cores_per_node, asked.gpus_per_node) == (4, 1)


def test_flags_that_are_no_words() -> None:
    with pytest.raises(InvalidInput, match=r'the scheduler flags "-x \'a" .*No closing quotation'):
        script.submission(SITE, batch_job(scheduler_flags="-x 'a"))


def test_the_launcher_of_all_workflows() -> None:
    assert script.launcher_words(SITE, batch_job()) == [
        *(sys.executable, "-P", "-m", "balsam.cli.main", "--site", "/sites/my site", "launcher"),
        *("--consume-all", "--job-mode", "auto", "--time-limit-minutes", "28", "--batch-job", "7"),
    ]


def test_the_launcher_of_some_jobs() -> None:
    job = batch_job(wf_filter="-a b", tags={"k": "v w", "l": ""}, job_mode="mpi")
    words = script.launcher_words(SITE, job, idle_seconds=0.5)
    assert "--consume-all" not in words
    assert words[7:10] == ["--wf-filter=-a b", "--job-mode", "mpi"]
    assert words[-6:] == ["--tag", "k=v w", "--tag", "l=", "--idle-seconds", "0.5"]


def test_a_directive_is_one_line() -> None:
    job = batch_job()
    asked = script.submission(SITE, job)
    with pytest.raises(InvalidInput, match="more than one line"):
        script.variables(SITE, job, asked, ["#X -q a\nreboot"])


def test_all_variables_have_a_value_and_no_others() -> None:
    job = batch_job()
    given = script.variables(SITE, job, script.submission(SITE, job), ["#A", "#B"])
    assert list(given) == list(template.VARIABLES)
    assert given["directives"] == "#A\n#B"


def test_the_submitters_environment() -> None:
    job = batch_job()
    asked = script.submission(SITE, job)

    def environment(**environ: str) -> str:
        return str(script.variables(SITE, job, asked, [], environ=environ)["environment"])

    assert environment(BALSAM_HOME="/a b", HOME="/h", LC_ALL="C.UTF-8").splitlines()[:2] == [
        "export BALSAM_HOME='/a b'",
        "export LC_ALL=C.UTF-8",
    ]
    for name, value in SETTINGS.items():
        assert f'if [ "${{{name}-}}" = {value} ]; then unset {name}; fi' in environment()


def test_the_whole_script() -> None:
    job = batch_job(wf_filter="a b")
    asked = script.submission(SITE, job)
    shipped = template.check(template.default_text(), "T")
    text = script.render(shipped, SITE, job, Local(), asked)
    assert text.startswith("#!/bin/bash\n")
    assert " --site '/sites/my site' launcher '--wf-filter=a b' --job-mode auto" in text
    assert "{{" not in text
