"""What `balsam clean` takes for left over, and what it leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balsam.client.local import LocalClient
from balsam.functions.calls import DIRECTORY, Writer
from balsam.lifecycle import remains
from balsam.lifecycle.recover import journal_path, launcher_directory
from balsam.model.app import App, Function
from balsam.model.job import Job
from balsam.model.query import ALL, Query
from balsam.model.states import State
from balsam.model.wire import LauncherInfo
from tests.contract.pilot import add

BEFORE = 1_000_000.0
OLD = (BEFORE - 1, BEFORE - 1)


def old(path: Path, *, is_directory: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_directory:
        path.mkdir()
        (path / "inside").write_text("12345")
    else:
        path.write_text("12345")
    os.utime(path, OLD)
    return path


@pytest.fixture
def writer(site: Path) -> Writer:
    return Writer(site, "f", str, inline_bytes=0)


def test_arguments_that_no_job_has(client: LocalClient, site: Path, writer: Writer) -> None:
    client.add_app(App(name="f", function=Function(code="x", hooks=["run"])))
    payloads = [writer.one((value,), {}).payload for value in ({1}, {2}, {3})]
    many = writer.many([(({4},), {})]) or ""
    files = [site / payload[1:] for payload in (*payloads, many)]
    kept = [Job(name="k", workflow="w", application="f", payload=p) for p in (payloads[0], many)]
    client.create_jobs(kept)
    aside = old(files[0].with_suffix(".17.4"))
    for file in files[:2] + files[3:]:
        os.utime(file, OLD)
    assert set(remains.unused_arguments(client, BEFORE)) == {files[1], aside}
    client.delete_jobs(ALL)
    assert set(remains.unused_arguments(client, BEFORE)) == {*files[:2], files[3], aside}


def test_arguments_that_are_used_again_are_young(site: Path, writer: Writer) -> None:
    payload = writer.one(({1},), {}).payload
    file = site / payload[1:]
    os.utime(file, OLD)
    assert writer.one(({1},), {}).payload == payload
    assert remains.remove(file, BEFORE) == 0
    assert file.exists()
    os.utime(file, OLD)
    size = file.stat().st_size
    assert remains.remove(file, BEFORE) == size > 0
    assert os.listdir(file.parent) == []
    assert remains.remove(file, BEFORE) == 0
    assert writer.one(({1},), {}).payload == payload
    assert file.exists()
    assert str(file).startswith(str(site / DIRECTORY))


def test_what_launchers_leave_that_have_ended(client: LocalClient, site: Path) -> None:
    ids = [client.register_launcher(LauncherInfo(host="h", pid=n), 60) for n in range(2)]
    client.retire_launcher(ids[0], "ended")
    unknown = old(launcher_directory(site, 99), is_directory=True)
    directories = [old(launcher_directory(site, n), is_directory=True) for n in ids]
    journals = [old(journal_path(site, n)) for n in ids]
    now = client.now() + 1
    assert list(remains.left_by_launchers(client, BEFORE)) == []  # it ended later
    found = list(remains.left_by_launchers(client, now))
    assert found == [directories[0], journals[0]]
    assert [remains.remove(path, now) for path in found] == [5, 5]
    assert unknown.exists()
    assert directories[1].exists()


def test_half_done_copies_of_jobs_that_have_ended(client: LocalClient, tmp_path: Path) -> None:
    for name in ("ended", "waiting", "plain"):
        url = "" if name == "plain" else "local:/x"
        add(client, name, user_workdir=str(tmp_path / name), stage_in_url=url)
        for part in (".a.dat.0123abcd.part", ".a.part", "a.0123abcd.part", "a.dat"):
            old(tmp_path / name / part)
        old(tmp_path / name / ".box.00000000.part", is_directory=True)
    add(client, "never-made", user_workdir="/no/such/directory", stage_in_url="local:/x")
    client.move_jobs(Query().where(name__ne="waiting"), State.FAILED)
    found = set(remains.parts_of_transfers(client, BEFORE))
    names = (".a.dat.0123abcd.part", ".box.00000000.part")
    assert found == {tmp_path / "ended" / name for name in names}


def test_versions_of_functions_without_jobs(client: LocalClient) -> None:
    run = Function(code="x", hooks=["run"])
    for name in ("f", "f@00000001", "f@00000002", "g@host"):
        client.add_app(App(name=name, function=run))
    client.add_app(App(name="x@00000001", executable="x"))
    add(client, "one", application="f@00000001")
    names = [app.name for app in remains.versions(client)]
    assert names == ["f@00000001", "f@00000002"]
    assert client.unused_apps(names) == ["f@00000002"]
    assert client.unused_apps(["no", *names], remove=True) == ["f@00000002"]
    assert [app.name for app in client.apps(ALL)][-4:] == [
        "f",
        "f@00000001",
        "g@host",
        "x@00000001",
    ]
