"""Waking: a watch hears what other processes do to the site."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsam import config
from balsam.client.connect import create_site, open_client
from balsam.client.local import LocalClient
from balsam.errors import NotFound
from balsam.model.graph import Kind
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.wire import LauncherInfo, LeaseRequest, Topic
from balsam.store.bell import Bell, ring
from tests.contract.calls import on_sqlite
from tests.contract.pilot import add

#: Long enough for any machine; a bell that is heard ends the wait at once.
PATIENCE = 30.0

WHAT_OTHERS_DO = {
    "create": "client.create_jobs([Job(name='new', workflow='w', application='a')])",
    "kill": "client.kill_jobs(ALL)",
    "delete": "client.delete_jobs(ALL.where(name='two'))",
    "update": "client.update_jobs(ALL, {'priority': 3})",
    "move": "client.move_jobs(ALL.where(name='two'), State.FAILED)",
    "rerun": "client.rerun_jobs(ALL)",
    "depend": "client.add_dependency(1, 2, Kind.ANY)",
    "give back": "client.report(1, Report(released=[1]))",
    "retire": "client.retire_launcher(1, 'done')",
}


@pytest.fixture
def working(client: LocalClient) -> LocalClient:
    """A site with jobs 'one', which launcher 1 has leased, and 'two'."""
    launcher = client.register_launcher(LauncherInfo(host="h", pid=1), 60)
    add(client, "one", "two")
    client.lease(launcher, LeaseRequest(limit=1))
    return client


@pytest.fixture
def bell(working: LocalClient) -> Iterator[Bell]:
    bell = working.watch(Topic.WORK)
    yield bell
    bell.close()


def elsewhere(site: Path, statement: str) -> None:
    """Execute *statement* with a client of *site* in another process."""

    program = f"""if True:
        from pathlib import Path
        from balsam.client.connect import open_client
        from balsam.model.graph import Kind
        from balsam.model.job import Job
        from balsam.model.query import ALL
        from balsam.model.states import State
        from balsam.model.wire import Move, Report
        START = Move(1, 1, State.PREPROCESSED, State.RUNNING, 1.0)
        END = Move(1, 1, State.RUNNING, State.RUN_DONE, 2.0)
        END = [END, Move(1, 1, State.RUN_DONE, State.JOB_FINISHED, 2.0)]
        client = open_client(Path({str(site)!r}))
        {statement}
        client.close()
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("what", WHAT_OTHERS_DO)
def test_a_watch_hears_what_others_do(
    working: LocalClient, bell: Bell, site: Path, what: str
) -> None:
    assert not bell.wait(0)
    elsewhere(site, WHAT_OTHERS_DO[what])
    assert bell.wait(PATIENCE)
    assert not bell.wait(0), "one wait takes all that was heard"


def test_each_topic_wakes_whom_it_concerns(working: LocalClient, site: Path) -> None:
    """A hundred launchers are not woken whenever one of them starts or ends a job."""
    launchers, waiting = working.watch(Topic.WORK), working.watch(Topic.ENDS)
    elsewhere(site, "client.report(1, Report(moves=[START]))")
    assert not launchers.wait(0)
    assert not waiting.wait(0)
    elsewhere(site, "client.report(1, Report(moves=END))")
    assert waiting.wait(PATIENCE)
    assert not launchers.wait(0)
    working.create_jobs([Job(name="child", workflow="w", application="a", parents=[2])])
    launcher = working.register_launcher(LauncherInfo(host="h", pid=2), 60)
    working.lease(launcher, LeaseRequest(limit=9))
    freeing = "[Move(2, 1, State.PREPROCESSED, State.RUNNING, 3.0), Move(2, 1, State.RUNNING,"
    freeing += "State.RUN_DONE, 3.0), Move(2, 1, State.RUN_DONE, State.JOB_FINISHED, 3.0)]"
    elsewhere(site, f"client.report({launcher}, Report(moves={freeing}))")
    assert launchers.wait(PATIENCE)
    launchers.close()
    waiting.close()


def test_a_watch_wakes_while_it_waits(working: LocalClient, bell: Bell, site: Path) -> None:
    program = f"""if True:
        import sys
        from pathlib import Path
        from balsam.client.connect import open_client
        from balsam.model.query import ALL
        client = open_client(Path({str(site)!r}))
        print(flush=True)
        sys.stdin.readline()
        client.kill_jobs(ALL)
    """
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    other.stdout.readline()
    assert other.stdin is not None
    other.stdin.write("\n")
    other.stdin.flush()
    assert bell.wait(PATIENCE)
    other.communicate(timeout=60)


def test_reading_rings_no_bell(working: LocalClient, bell: Bell, site: Path) -> None:
    elsewhere(site, "client.jobs(ALL); client.events(ALL); client.state_counts(ALL)")
    elsewhere(site, "client.renew(1, 60.0); client.report(1, Report())")
    assert not bell.wait(0)


def test_a_client_does_not_wake_itself(working: LocalClient, bell: Bell) -> None:
    working.kill_jobs(ALL)
    assert not bell.wait(0)


def test_two_clients_of_one_process_wake_each_other(
    working: LocalClient, bell: Bell, site: Path
) -> None:
    other = LocalClient(site, config.load(site))
    second = other.watch(Topic.WORK)
    working.kill_jobs(ALL)
    assert second.wait(PATIENCE)
    assert not bell.wait(0)
    other.rerun_jobs(ALL)
    assert bell.wait(PATIENCE)
    second.close()
    other.close()


def test_a_watch_can_be_one_of_many_descriptors(
    working: LocalClient, bell: Bell, site: Path
) -> None:
    elsewhere(site, WHAT_OTHERS_DO["kill"])
    assert select.select([bell.fileno()], [], [], PATIENCE)[0] == [bell.fileno()]
    bell.clear()
    assert select.select([bell.fileno()], [], [], 0)[0] == []


def test_what_failed_rings_no_bell(working: LocalClient, bell: Bell, site: Path) -> None:
    other = LocalClient(site, config.load(site))
    with pytest.raises(NotFound):
        other.add_dependency(1, 999, Kind.OK)
    other.close()
    assert not bell.wait(0)


def test_a_site_far_down(tmp_path: Path, balsam_home: Path) -> None:
    """The address of a socket holds 108 bytes; paths of sites are longer."""
    path = tmp_path.joinpath(*["a-directory-with-a-long-name"] * 6)
    assert len(str(path / "run")) > 108
    create_site(path)
    client = open_client(path)
    bell = client.watch(Topic.WORK)
    ring(path / "run", [Topic.WORK])
    assert bell.wait(PATIENCE)
    bell.close()
    client.close()


@on_sqlite
def test_a_closed_watch_leaves_nothing(client: LocalClient, site: Path) -> None:
    bell = client.watch(Topic.WORK)
    assert len(os.listdir(site / "run")) == 1
    bell.close()
    assert os.listdir(site / "run") == []


@on_sqlite
def test_bells_of_the_dead_are_removed(client: LocalClient, site: Path) -> None:
    program = f"""if True:
        import os
        from pathlib import Path
        from balsam.model.wire import Topic
        from balsam.store.bell import Bell
        bell = Bell(Path({str(site / "run")!r}), Topic.WORK)
        os.kill(os.getpid(), {int(signal.SIGKILL)})
    """
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert len(os.listdir(site / "run")) == 1
    bell = client.watch(Topic.WORK)
    ring(site / "run", [Topic.WORK])
    assert bell.wait(PATIENCE)
    assert os.listdir(site / "run") == [bell.name]
    bell.close()


@on_sqlite
def test_a_bell_that_nobody_listens_to_holds_nobody_up(
    working: LocalClient, bell: Bell, site: Path
) -> None:
    for _ in range(2000):
        ring(site / "run", [Topic.WORK])
    assert bell.wait(PATIENCE)


@pytest.mark.parametrize("run", ["missing", "a file"])
def test_a_change_is_made_where_no_bell_can_be_rung(
    client: LocalClient, site: Path, run: str
) -> None:
    """After an error nothing has changed: so after a change there is no error."""
    (site / "run").rmdir()
    if run == "a file":
        (site / "run").write_text("")
    assert len(add(client, "x")) == 1
    assert client.count_jobs(ALL) == 1
