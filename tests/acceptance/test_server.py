"""`balsam init --database` and `balsam server`, with real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from balsam.cluster import postmaster
from tests import postgres
from tests.acceptance.conftest import BIN, Balsam
from tests.conftest import ending
from tests.integration.conftest import is_running, wait_until

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture(scope="module")
def programs() -> None:
    postgres.require()


@pytest.fixture(autouse=True)
def ended(tmp_path: Path) -> Iterator[None]:
    """End the servers of all sites of the test."""
    yield
    for file in tmp_path.rglob("postmaster.pid"):
        found = postmaster.running(file.parent)
        if found:
            os.kill(found.pid, signal.SIGQUIT)


@pytest.fixture
def site(tmp_path: Path, bare_balsam: Balsam) -> Path:
    """A new site with a server of its own, which runs."""
    path = tmp_path / "site"
    made = bare_balsam("init", path, "--database", "postgres")
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""
    return path


Ask = Callable[..., Any]


@pytest.fixture
def server(balsam: Balsam) -> Ask:
    """Run `balsam server …`, which must succeed, and return its output; with --json, read."""

    def server(*words: str) -> Any:
        done = balsam("server", *words)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return json.loads(done.stdout) if "--json" in words else done.stdout

    return server


def error(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """Return the one line of a refusal."""
    assert done.returncode == code, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("balsam: error: ") or code == 2, done.stderr
    assert "Traceback" not in done.stderr
    return lines[-1]


def kill(pid: int) -> None:
    process = psutil.Process(pid)
    children = process.children(recursive=True)
    process.kill()
    assert not ending([process, *children], 10)


# making sites -------------------------------------------------------------------------------


def test_a_new_site_works_and_its_files_are_its_owners(site: Path, balsam: Balsam) -> None:
    assert 'url = "postgres"' in (site / "balsam.toml").read_text()
    for name, mode in (("balsamdb", 0o700), ("pgpass", 0o600), ("run", 0o700), (".", 0o700)):
        assert (site / name).stat().st_mode & 0o777 == mode, name
    assert not (site / "balsam.db").exists()
    for words in (
        ("app", "--name", "say", "--exec", "/bin/echo"),
        ("job", "--name", "a", "--workflow", "w", "--app", "say", "--args", "hi", "--yes"),
        ("launcher", "--consume-all"),
    ):
        done = balsam(*words)
        assert done.returncode == 0, done.stderr
    (job,) = json.loads(balsam("ls", "--json").stdout)
    assert job["state"] == "JOB_FINISHED"
    assert "own server" in balsam("which").stdout


def test_server_info_is_what_scripts_read(site: Path, server: Ask) -> None:
    found = json.loads((site / "server-info").read_text())
    assert found["host"] == str(site / "run")
    assert isinstance(found["port"], int)
    lines = (site / "pgpass").read_text().splitlines()
    assert [line.split(":")[3] for line in lines] == ["balsam", "balsam_admin"]
    psycopg.connect(
        host=found["host"],
        port=found["port"],
        dbname="balsam",
        user="balsam",
        passfile=str(site / "pgpass"),
    ).close()


def test_listen(bare_balsam: Balsam, tmp_path: Path) -> None:
    done = bare_balsam("init", "site", "--database", "postgres", "--listen", "127.0.0.1")
    assert done.returncode == 0, done.stderr
    assert 'listen = "127.0.0.1"' in (tmp_path / "site" / "balsam.toml").read_text()
    found = json.loads((tmp_path / "site" / "server-info").read_text())
    assert found["host"] == "127.0.0.1"
    status = json.loads(bare_balsam("--site", "site", "server", "--status", "--json").stdout)
    assert status["running"] is True


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("--database", "oracle"), 2, "'oracle'; give 'sqlite', 'postgres' or a URL"),
        (("--database", "mysql://u@h/d"), 1, "'mysql' is not supported"),
        (("--database", "postgresql://nobody@127.0.0.1:1/x"), 1, "cannot be reached"),
        (("--listen",), 2, "add --database postgres"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(
    bare_balsam: Balsam, tmp_path: Path, words: tuple[str, ...], code: int, expected: str
) -> None:
    done = bare_balsam("init", "a/new/site", *words)
    assert expected in error(done, code)
    assert not (tmp_path / "a").exists()


def failing(directory: Path, name: str, text: str) -> str:
    """Return a PATH with programs of which *name* does *text* first."""
    real = postgres.require()
    directory.mkdir()
    for program in ("initdb", "postgres"):
        before = text if program == name else ""
        file = directory / program
        file.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {real / program} "$@"\n{before}\n'
            f'exec {real / program} "$@"\n'
        )
        file.chmod(0o755)
    return f"{directory}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("name", ["initdb", "postgres"])
def test_a_failure_on_the_way_leaves_what_was_there(
    bare_balsam: Balsam, tmp_path: Path, name: str
) -> None:
    (tmp_path / "site" / "data").mkdir(parents=True)
    (tmp_path / "site" / "data" / "mine").write_text("precious")
    path = failing(tmp_path / "bin", name, "echo 'FATAL:  a broken thing' >&2; exit 1")
    done = bare_balsam("init", "site", "--database", "postgres", env={"PATH": path})
    assert "a broken thing" in error(done)
    left = sorted(str(p.relative_to(tmp_path / "site")) for p in (tmp_path / "site").rglob("*"))
    assert left == ["data", "data/mine"]
    assert bare_balsam("init", "site", "--database", "postgres").returncode == 0


def test_an_interrupt_on_the_way_leaves_nothing(tmp_path: Path, environ: dict[str, str]) -> None:
    mark = tmp_path / "reached"
    path = failing(tmp_path / "bin", "postgres", f"[ -d base ] && touch {mark} && sleep 1000")
    process = subprocess.Popen(
        [str(BIN / "balsam"), "init", "new/site", "--database", "postgres"],
        cwd=tmp_path,
        env={**environ, "PATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(mark.exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not (tmp_path / "new").exists()
    wait_until(lambda: not [p for p in psutil.process_iter() if _is_of(p, environ)])


def _is_of(process: psutil.Process, environ: dict[str, str]) -> bool:
    try:
        mine = process.environ().get("BALSAM_HOME") == environ["BALSAM_HOME"]
        return mine and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def test_a_second_init_leaves_the_first_alone(site: Path, bare_balsam: Balsam) -> None:
    assert "already" in error(bare_balsam("init", site, "--database", "postgres"))
    assert bare_balsam("--site", site, "server", "--status").returncode == 0


# the server -----------------------------------------------------------------------------------


def test_connect_status_stop(server: Ask, balsam: Balsam, site: Path) -> None:
    status = server("--status", "--json")
    assert status["running"] is True
    assert status["data_directory"] == str(site / "balsamdb")
    assert status["max_connections"] >= 220
    assert status["size_bytes"] > 2**20
    assert status["started_at"].endswith("Z")
    text = server("--status")
    assert "running" in text
    assert f"pid         {status['pid']}" in text
    assert "runs" in server("--connect")
    assert "Stopped" in server("--stop")
    assert not is_running(status["pid"])
    assert "did not run" in server("--stop")
    down = balsam("server", "--status", "--json")
    assert down.returncode == 1
    assert json.loads(down.stdout)["running"] is False
    assert "not running" in balsam("server", "--status").stdout
    assert "--connect" in error(balsam("server", "--list-users"))
    assert "Started" in server("--connect")
    assert server("--status", "--json")["pid"] != status["pid"]


def test_reset_restarts_it_and_says_how_many_connections_it_ended(server: Ask, site: Path) -> None:
    before = server("--status", "--json")["pid"]
    words = {"host": str(site / "run"), "dbname": "balsam", "user": "balsam"}
    with psycopg.connect(**words, passfile=str(site / "pgpass")) as open_one:
        assert "1 connection ended" in server("--reset")
        with pytest.raises(psycopg.OperationalError):
            open_one.execute("SELECT 1")
    assert server("--status", "--json")["pid"] != before


@pytest.fixture
def launcher(site: Path, balsam: Balsam, environ: dict[str, str]) -> Iterator[psutil.Process]:
    """A launcher that runs and waits."""
    process = subprocess.Popen(
        [str(BIN / "balsam"), "launcher", "--consume-all", "--persistent"],
        env={**environ, "BALSAM_DB_PATH": str(site)},
        stderr=subprocess.DEVNULL,
    )

    def connected() -> bool:
        listed = json.loads(balsam("server", "--list-active-connections", "--json").stdout)
        return any(str(process.pid) in session["application"] for session in listed)

    wait_until(connected)
    yield psutil.Process(process.pid)
    process.terminate()
    process.wait(30)


def test_launchers_are_asked_about_and_outlive_a_reset(
    launcher: psutil.Process, server: Ask, balsam: Balsam
) -> None:
    before = server("--status", "--json")["pid"]
    assert "--yes" in error(balsam("server", "--reset"), 2)
    done = balsam("server", "--stop", stdin="n\n")
    assert "1 launcher" in done.stderr
    assert "Nothing was changed" in done.stdout
    assert server("--status", "--json")["pid"] == before
    assert "Restarted" in server("--reset", "--yes")
    balsam("app", "--name", "true", "--exec", "/bin/true")
    balsam("job", "--name", "a", "--workflow", "w", "--app", "true", "--yes")

    def states() -> list[str]:
        return [job["state"] for job in json.loads(balsam("ls", "--json").stdout)]

    wait_until(lambda: states() == ["JOB_FINISHED"], states)
    assert launcher.is_running()


def test_connections_are_listed(launcher: psutil.Process, server: Ask, site: Path) -> None:
    listed = server("--list-active-connections", "--json")
    mine = [s for s in listed if str(launcher.pid) in s["application"]]
    assert 1 <= len(mine) <= 2
    for session in mine:
        assert session["user"] == "balsam"
        assert session["client"] == "local"
        assert session["state"] == "idle"
        assert session["state_at"].endswith("Z")
        assert session["waits_for"] == ""
    keys = {"pid", "user", "application", "client", "state", "state_at", "waits_for"}
    assert set(listed[0]) == keys
    assert str(launcher.pid) in server("--list-active-connections")


def test_who_waits_for_a_lock_is_shown(server: Ask, site: Path) -> None:
    words: dict[str, Any] = {"host": str(site / "run"), "dbname": "balsam", "user": "balsam"}
    words["passfile"] = str(site / "pgpass")
    code = "import psycopg, json, sys; psycopg.connect(**json.loads(sys.argv[1])).execute("
    code += "'LOCK TABLE jobs')"
    with psycopg.connect(**words) as holder:
        holder.execute("LOCK TABLE jobs")
        waiting = subprocess.Popen([sys.executable, "-c", code, json.dumps(words)])

        def waits() -> list[str]:
            listed = server("--list-active-connections", "--json")
            return [s["waits_for"] for s in listed if s["waits_for"]]

        assert wait_until(waits) == ["Lock: relation"]
    waiting.wait()


# users ------------------------------------------------------------------------------------------

HOSTILE = "o'b\"; DROP ROLE balsam; -- $(touch x) %s \\"


@pytest.mark.parametrize("name", ["alice", HOSTILE])
def test_users_come_and_go(
    server: Ask, balsam: Balsam, site: Path, tmp_path: Path, name: str
) -> None:
    balsam("app", "--name", "true", "--exec", "/bin/true")
    done = balsam("server", "--add-user", name)
    assert done.returncode == 0, done.stderr
    passfile = tmp_path / "theirs"
    passfile.touch(mode=0o600)
    passfile.write_text(done.stdout)
    words: dict[str, Any] = {"host": str(site / "run"), "dbname": "balsam", "user": name}
    words["passfile"] = str(passfile)
    with psycopg.connect(**words) as theirs:
        assert theirs.execute("SELECT name FROM apps").fetchall() == [("true",)]
        theirs.execute("UPDATE apps SET description = 'by them'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            theirs.execute("DROP TABLE apps")
    with psycopg.connect(**words) as theirs, pytest.raises(psycopg.errors.InsufficientPrivilege):
        theirs.execute("CREATE TABLE mine (x int)")
    listed = server("--list-users", "--json")
    assert {"name": name, "kind": "user", "connections": 0} in listed
    assert {user["name"]: user["kind"] for user in listed} == {
        name: "user",
        "balsam": "owner",
        "balsam_admin": "administrator",
    }
    assert "already" in error(balsam("server", "--add-user", name))
    with psycopg.connect(**words) as theirs:
        server("--drop-user", name)
        with pytest.raises(psycopg.OperationalError):
            theirs.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**words)
    assert {user["name"] for user in server("--list-users", "--json")} == {
        "balsam",
        "balsam_admin",
    }


def test_a_user_can_use_tables_that_come_later(server: Ask, site: Path, tmp_path: Path) -> None:
    passfile = tmp_path / "theirs"
    passfile.touch(mode=0o600)
    passfile.write_text(server("--add-user", "alice"))
    words: dict[str, Any] = {"host": str(site / "run"), "dbname": "balsam"}
    with psycopg.connect(**words, user="balsam", passfile=str(site / "pgpass")) as owner:
        owner.execute("CREATE TABLE later (id bigint GENERATED BY DEFAULT AS IDENTITY, x int)")
    with psycopg.connect(**words, user="alice", passfile=str(passfile)) as theirs:
        theirs.execute("INSERT INTO later (x) VALUES (1)")
        assert theirs.execute("SELECT x FROM later").fetchall() == [(1,)]


def test_a_user_can_do_all_with_jobs(
    server: Ask, bare_balsam: Balsam, balsam: Balsam, site: Path, tmp_path: Path
) -> None:
    balsam("app", "--name", "true", "--exec", "/bin/true")
    passfile = tmp_path / "theirs"
    passfile.touch(mode=0o600)
    passfile.write_text(server("--add-user", "alice"))
    theirs = tmp_path / "theirs of it"
    for name in ("data", "log", "run"):
        (theirs / name).mkdir(parents=True)
    url = f"postgresql://alice@/balsam?host={site / 'run'}&passfile={passfile}"
    (theirs / "balsam.toml").write_text(f'[database]\nurl = "{url}"\n')

    def run(*words: str) -> str:
        done = bare_balsam("--site", theirs, *words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    job = ("job", "--workflow", "w", "--app", "true", "--yes", "--array", "1-3")
    run(*job, "--name", "a{i}")
    run("launcher", "--consume-all")
    assert {j["state"] for j in json.loads(run("ls", "--json"))} == {"JOB_FINISHED"}
    run("app", "--name", "false", "--exec", "/bin/false")
    run("modify", "1", "priority", "3")
    run("rerun", "1")
    run("kill", "1", "--yes")
    run("rm", "jobs", "--all", "--force")
    assert json.loads(run("ls", "--json")) == []


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("--drop-user", "balsam"), 2, "owner"),
        (("--drop-user", "balsam_admin"), 2, "administrator"),
        (("--drop-user", "nobody"), 1, "no user 'nobody'"),
        (("--add-user", ""), 2, "''"),
        (("--add-user", "pg_x"), 2, "'pg_x'"),
        (("--add-user", "x" * 64), 2, "63 bytes"),
        (("--add-user", "balsam_users"), 1, "already"),
        (("--status", "--force"), 2, "--force"),
        ((), 2, "--connect"),
        (("--connect", "--stop"), 2, "not allowed"),
    ],
)
def test_refused(balsam: Balsam, words: tuple[str, ...], code: int, expected: str) -> None:
    assert expected in error(balsam("server", *words), code)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_only_the_owner_rules(site: Path, server: Ask, balsam: Balsam) -> None:
    server("--stop")
    os.chown(site / "balsamdb", 12345, 12345)
    for words in (("--add-user", "x"), ("--drop-user", "x"), ("--stop",), ("--connect", "--force")):
        assert "only" in error(balsam("server", *words))
    assert "only" in error(balsam("ls"))


def test_a_user_whose_launcher_runs_is_kept(
    launcher: psutil.Process, server: Ask, balsam: Balsam
) -> None:
    name = launcher.username()
    server("--add-user", name)
    assert "1 running launcher" in error(balsam("server", "--drop-user", name), 2)


# passwords, crashes -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["missing", "wrong"])
def test_a_lost_password_file_is_explained_and_made_anew(
    site: Path, server: Ask, balsam: Balsam, how: str
) -> None:
    file = site / "pgpass"
    if how == "missing":
        file.unlink()
    else:
        file.write_text("*:*:*:balsam:wrong\n*:*:*:balsam_admin:wrong\n")
    message = error(balsam("ls"))
    assert "balsam server --reset" in message
    assert str(file) in message
    assert "new password file" in server("--reset", "--yes")
    assert balsam("ls").returncode == 0
    assert server("--list-users")


def test_a_command_starts_a_server_that_is_down(site: Path, server: Ask, balsam: Balsam) -> None:
    balsam("app", "--name", "true", "--exec", "/bin/true")
    kill(server("--status", "--json")["pid"])
    done = balsam("ls", "apps", "--json")
    assert done.returncode == 0, done.stderr
    *waiting, started = done.stderr.splitlines()  # recovery can take long enough to be told of
    assert started == f"balsam: started the database server of {site}"
    assert all("still starts" in line for line in waiting)
    assert [app["name"] for app in json.loads(done.stdout)] == ["true"]
    assert balsam("ls", "apps").stderr == ""


def test_activation_starts_it(site: Path, server: Ask, environ: dict[str, str]) -> None:
    server("--stop")

    def activate() -> subprocess.CompletedProcess[str]:
        script = f'source balsamactivate {site} && echo "at $BALSAM_DB_PATH"'
        return subprocess.run(
            ["bash", "--norc", "-c", script], env=environ, capture_output=True, text=True
        )

    environ.pop("BALSAM_DB_PATH")
    done = activate()
    assert done.stdout.splitlines()[-1] == f"at {site}", done.stderr
    assert "Started" in done.stdout
    environ["BALSAM_DB_PATH"] = str(site)
    assert server("--status", "--json")["running"] is True
    server("--stop")
    (site / "balsamdb" / "PG_VERSION").write_text("9")
    done = activate()
    assert done.returncode == 1
    assert "at " not in done.stdout
    assert "PostgreSQL 9" in done.stderr


def test_one_on_another_host_is_explained(site: Path, server: Ask, balsam: Balsam) -> None:
    kill(server("--status", "--json")["pid"])
    file = site / "server-info"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"node": "login2", "pid_space": "x"}))
    assert "login2" in error(balsam("ls"))
    down = balsam("server", "--status", "--json")
    assert down.returncode == 1
    status = json.loads(down.stdout)
    assert (status["running"], status["node"]) == (None, "login2")
    assert "--force" in error(balsam("server", "--connect"))
    assert "Started" in server("--connect", "--force")


# other databases --------------------------------------------------------------------------------


def test_a_site_with_a_file_has_no_server(bare_balsam: Balsam, tmp_path: Path) -> None:
    bare_balsam("init", "plain", "--database", "sqlite")
    for verb in ("--status", "--stop", "--reset", "--list-users", "--list-active-connections"):
        assert "no server" in error(bare_balsam("--site", "plain", "server", verb))
    done = bare_balsam("--site", "plain", "server", "--connect")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no server" in done.stdout


def test_a_server_that_is_there(bare_balsam: Balsam, tmp_path: Path, postgres_url: str) -> None:
    done = bare_balsam("init", "given", "--database", postgres_url)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "given" / "balsam.toml").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "given" / "balsamdb").exists()

    def server(*words: str) -> subprocess.CompletedProcess[str]:
        return bare_balsam("--site", "given", "server", *words)

    status = json.loads(server("--status", "--json").stdout)
    assert (status["running"], status["managed"], status["pid"]) == (True, False, None)
    assert "answers" in server("--connect").stdout
    assert json.loads(server("--list-active-connections", "--json").stdout) == []
    assert "tester" in server("--list-users").stdout
    for words in (("--stop",), ("--reset",), ("--add-user", "x"), ("--drop-user", "x")):
        assert "not the site's own" in error(server(*words))
    assert bare_balsam("--site", "given", "ls").returncode == 0
    assert "already" in error(bare_balsam("init", "second", "--database", postgres_url))
    assert not (tmp_path / "second").exists()


def test_passwords_in_urls_are_not_shown(bare_balsam: Balsam, tmp_path: Path) -> None:
    bare_balsam("init", "given")
    for secret in ("postgresql://u:hidden@h/d", "postgresql://h/d?user=u&password=hidden&x=1"):
        (tmp_path / "given" / "balsam.toml").write_text(f'[database]\nurl = "{secret}"\n')
        for words in (("which",), ("which", "--json"), ("config", "show")):
            done = bare_balsam("--site", "given", *words)
            assert done.returncode == 0, done.stderr
            assert "hidden" not in done.stdout
            assert "***" in done.stdout
