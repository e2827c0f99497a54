"""The names of 0.x in processes of their own: what importing does, time zones, many at once."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from balsam.api import Site
from balsam.model.states import State


@pytest.fixture
def used(site: Path) -> Site:
    """A new site on each database, with the app `echo`."""
    with Site(site) as opened:
        opened.apps.create(name="echo", executable="/bin/echo")
    return opened


def start(code: str, site: Path | None, *args: object, **environ: str) -> subprocess.Popen[str]:
    where = {} if site is None else {"BALSAM_DB_PATH": str(site)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        env={**os.environ, **where, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""
    return out


IMPORTED = """\
import sys
started = []
sys.addaudithook(lambda event, _: event.startswith(("subprocess", "os.", "sqlite3")) and
    event not in ("os.listdir", "os.scandir", "os.add_dll_directory") and started.append(event))
import balsam
from balsam.launcher.dag import add_job, BalsamJob
from balsam.launcher.futures import wait
from balsam.core.models import END_STATES, BalsamJob
assert END_STATES == ["JOB_FINISHED", "FAILED", "USER_KILLED"]
BalsamJob.objects.filter(state="FAILED")
heavy = {"sqlalchemy", "alembic", "rich", "jinja2", "sqlite3", "httpx", "zmq", "numpy"}
print(balsam.__version__, started, sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""


def test_importing_asks_nobody_and_needs_no_site(tmp_path: Path) -> None:
    """Faults B1, B4; with BALSAM_SPHINX_DOC_BUILD_ONLY there is nothing more to leave out."""
    from balsam import __version__

    inside = {"SLURM_JOB_ID": "7", "BALSAM_JOB_ID": "x", "BALSAM_SPHINX_DOC_BUILD_ONLY": "TRUE"}
    for environ in ({}, inside):
        assert output(start(IMPORTED, None, **environ)) == f"{__version__} [] []\n"


TIMES = """\
import os, time
from datetime import datetime
from balsam.core.models import BalsamJob, process_job_times
job = BalsamJob.objects.get()
elapsed = datetime.now() - job.get_state_times()["PREPROCESSED"]
assert 0 <= elapsed.total_seconds() < 60, elapsed
assert process_job_times()["PREPROCESSED"] == [job.get_state_times()["PREPROCESSED"]]
assert f"{job.get_state_times()['PREPROCESSED']:%H:%M:%S.%f} PREPROCESSED]" in job.state_history
assert datetime.now() >= job.tick
assert os.environ["TZ"] == "CST6" and time.timezone == 6 * 3600
"""


def test_times_are_of_the_zone_of_the_process(used: Site) -> None:
    """Fault A9: `now() - time` is the time that passed, and the zone is left alone."""
    with Site(used.path) as site:
        site.jobs.create(name="a", workflow="w", application="echo")
    output(start(TIMES, used.path, TZ="CST6"))


EDGES = """\
import sys
from balsam.launcher.dag import BalsamJob, add_dependency
child = BalsamJob.objects.get(name="child")
sys.stdin.readline()
for parent in BalsamJob.objects.filter(workflow=sys.argv[1]):
    add_dependency(parent, child)
"""


def test_four_processes_add_parents_to_one_child(used: Site) -> None:
    """Fault A2: of 40 dependencies, added ten by each of four, 19 were kept."""
    with Site(used.path) as site:
        fields = [{"name": f"p{i}", "workflow": str(i % 4)} for i in range(40)]
        fields.append({"name": "child", "workflow": "w"})
        site.jobs.bulk_create({**each, "application": "echo"} for each in fields)
        running = [start_waiting(used.path, n) for n in range(4)]
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in running:
            output(process)
        child = site.jobs.get(name="child")
        assert (len(child.parents), child.pending_parents) == (40, 40)
        assert child.state == State.AWAITING_PARENTS


def start_waiting(site: Path, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", EDGES, str(number)],
        env={**os.environ, "BALSAM_DB_PATH": str(site)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


MANY = """\
import os, sys
from balsam.launcher import dag
ids = {dag.BalsamJob(name="unsaved").pk for i in range(9)}
pid = os.fork()
for i in range(30):
    job = dag.BalsamJob(name=f"{os.getpid()}-{i}", workflow="w", application="echo")
    assert job.pk not in ids
    job.save()
pid and os.waitpid(pid, 0)
"""


def test_ids_are_reserved_by_many_at_once(used: Site) -> None:
    """Ids known before saving are nobody else's, nor a forked child's."""
    running = [start(MANY, used.path, n) for n in range(2)]
    for process in running:
        output(process)
    with Site(used.path) as site:
        assert site.jobs.count() == len(set(site.jobs.values_list("name", flat=True))) == 120


DJANGO = {
    "__init__.py": "",
    "core/__init__.py": "",
    "core/exceptions.py": (
        "class ObjectDoesNotExist(Exception): pass\n"
        "class MultipleObjectsReturned(Exception): pass\n"
    ),
}
CATCHES = """\
from django.core.exceptions import ObjectDoesNotExist
from balsam.core.models import ApplicationDefinition, BalsamJob
for model in ApplicationDefinition, BalsamJob:
    assert issubclass(model.DoesNotExist, ObjectDoesNotExist)
    try:
        model.objects.get(name="no such")
    except ObjectDoesNotExist as error:
        print(type(error).__name__)
"""


def test_what_does_not_exist_does_not_exist_for_django_either(used: Site, tmp_path: Path) -> None:
    for name, text in DJANGO.items():
        file = tmp_path / "modules" / "django" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    path = os.pathsep.join([str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")])
    out = output(start(CATCHES, used.path, PYTHONPATH=path))
    assert out == "NoSuchApp\nNoSuchJob\n"


REAL_DJANGO = """\
import balsam, os
balsam.setup(); balsam.setup()
from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from balsam.launcher import dag
with transaction.atomic():
    dag.add_job("a", "w", "echo")
try:
    dag.BalsamJob.objects.get(name="b")
except ObjectDoesNotExist:
    print(dag.BalsamJob.objects.count(), os.environ.get("TZ"))
"""


@pytest.mark.skipif(not importlib.util.find_spec("django"), reason="Django is not installed")
def test_transactions_of_the_real_django_do_no_harm(used: Site) -> None:
    assert output(start(REAL_DJANGO, used.path)) == "1 None\n"
