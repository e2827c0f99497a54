"""Functions as hooks of apps: what is registered, shown and refused."""

from __future__ import annotations

import base64
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import balsam
from balsam import dag
from balsam.api import Job, Site
from balsam.client.local import LocalClient
from balsam.errors import InvalidInput

HERE = f"python:{__name__}:prepare"


def prepare(job: Any) -> None:
    job.data = {"prepared": True}


@pytest.fixture
def here(client: LocalClient, site: Path) -> Iterator[Site]:
    used = Site.use(site)
    yield used
    used.close()


def local(value: int) -> Any:
    def hook(job: Any) -> None:
        job.data = {"value": value}

    return hook


def test_a_function_of_a_module_goes_by_its_name(here: Site) -> None:
    app = here.apps.create(name="sim", executable="x", preprocess=prepare)
    assert app.preprocess == HERE
    (found,) = here.apps.filter(name="sim")
    assert (found.preprocess, found.function.functions) == (HERE, {})
    assert found.function.python == sys.executable
    assert os.getcwd() in found.function.path
    assert found.has_hook("preprocess")
    assert not found.function.hooks


def test_another_one_goes_along_and_its_version_is_of_its_code(here: Site) -> None:
    app = here.apps.create(name="sim", executable="x", postprocess=local(1), preprocess=prepare)
    first = app.postprocess
    assert first.startswith(f"python:{__name__}:local.hook@")
    (code,) = app.function.functions.values()
    made = pickle.loads(base64.b64decode(code))
    job = Job()
    made(job)
    assert job.data == {"value": 1}
    app.postprocess = local(2)
    app.save()
    (found,) = here.apps.filter(name="sim")
    assert found.postprocess == app.postprocess != first
    assert list(found.function.functions) == [found.postprocess.removeprefix("python:")]
    found.postprocess = "collect"
    found.save()
    assert here.apps.get(name="sim").function.functions == {}
    assert here.apps.get(name="sim").preprocess == HERE


def test_all_ways_to_give_one(here: Site) -> None:
    dag.add_app("a", "x", preprocess=prepare)
    dag.add_app("b", "x")
    dag.add_app("b", "y", postprocess=prepare)
    here.apps.create(name="c", executable="x", error_handler=HERE)
    here.apps.create(name="d", executable="x")
    assert here.apps.filter(name__in=["a", "d"]).update(timeout_handler=prepare) == 2
    get = here.apps.get
    assert (get(name="a").preprocess, get(name="a").timeout_handler) == (HERE, HERE)
    assert (get(name="b").executable, get(name="b").postprocess) == ("y", HERE)
    assert get(name="c").function.python == sys.executable
    assert get(name="d").timeout_handler == HERE


def test_hooks_of_functions_as_jobs_are_part_of_their_version(here: Site) -> None:
    def work(x: int) -> int:
        return x

    first = balsam.app(postprocess=prepare, name="work")(work).register(here)
    assert here.apps.get(name="work").postprocess == HERE
    assert balsam.app(postprocess=prepare, name="work")(work).register(here) == first == "work"
    other = balsam.app(postprocess=local(1), name="work")(work).register(here)
    assert other.startswith("work@")
    found = here.apps.get(name=other)
    assert found.function.hooks == ["run"]
    assert list(found.function.functions) == [found.postprocess.removeprefix("python:")]


async def later(job: Any) -> None: ...


def several(job: Any, other: Any) -> None: ...


class Kind:
    pass


def holding(lock: Any) -> Any:
    return lambda job: lock.acquire()


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (later, "is async"),
        (several, r"several\(job: 'Any', other: 'Any'\) -> 'None' cannot be a hook"),
        (Kind, "Kind is a class"),
        ("python:sim", "'python:sim' names no function; give python:package.module:function"),
        ("python:a.b:c --fast", "without arguments"),
        ("python:a-b:c", "names no function"),
        (7, "takes a text"),
    ],
)
def test_what_cannot_be_a_hook_is_refused(here: Site, hook: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        here.apps.create(name="sim", executable="x", preprocess=hook)
    assert not here.apps.filter(name="sim")


def test_what_cannot_be_pickled_is_named(here: Site) -> None:
    with pytest.raises(InvalidInput, match="uses 'lock', which cannot be pickled"):
        here.apps.create(name="sim", executable="x", preprocess=holding(threading.Lock()))


def test_a_command_is_no_function(here: Site) -> None:
    with pytest.raises(InvalidInput, match="registered from Python"):
        here.apps.create(name="sim", executable="python:a:b")
