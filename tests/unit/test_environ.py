"""The environment of jobs."""

from __future__ import annotations

import json
import subprocess

import pytest

from balsam.lifecycle.environ import MOST_PARENTS, job_environ
from balsam.model.identity import JobIdentity
from balsam.model.job import Job

IDENTITY = JobIdentity(b"k" * 16)


def environ(parents: int) -> dict[str, str]:
    job = Job(id=1, job_id=IDENTITY.text(1), parents=list(range(2, parents + 2)))
    return job_environ(job, IDENTITY, attempt=1)


def test_parents_are_given_as_a_list_of_uuids() -> None:
    job = Job(id=1, job_id="x", parents=[3], parents_failed=[4], parents_any=[5])
    given = job_environ(job, IDENTITY, attempt=1)["BALSAM_PARENT_IDS"]
    assert json.loads(given) == [IDENTITY.text(parent) for parent in (3, 4, 5)]


@pytest.mark.parametrize("parents", [MOST_PARENTS, MOST_PARENTS + 1, 100_000])
def test_a_job_with_many_parents_can_be_started(parents: int) -> None:
    given = environ(parents)
    subprocess.run(["/bin/true"], env=given, check=True)
    whole = len(given["BALSAM_PARENT_IDS"]) > 0
    assert whole is (parents <= MOST_PARENTS)
