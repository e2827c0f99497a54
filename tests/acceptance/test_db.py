"""`balsam db`, as users have it: on a file, on a server that is there, on a server of the site."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsam.client.connect import open_client
from balsam.cluster import postmaster
from balsam.store.schema import REVISION
from tests.acceptance.conftest import BIN, Balsam, Result
from tests.integration.conftest import wait_until

STAMP = r"\d{8}T\d{6}Z"


@pytest.fixture(autouse=True)
def ended(tmp_path: Path) -> Iterator[None]:
    """End the servers of all sites of the test."""
    yield
    for file in tmp_path.rglob("postmaster.pid"):
        found = postmaster.running(file.parent)
        if found:
            os.kill(found.pid, signal.SIGQUIT)


@pytest.fixture
def site(database: str, tmp_path: Path, bare_balsam: Balsam) -> Path:
    """A new site, on each database, with five jobs."""
    path = tmp_path / "site"
    done(bare_balsam("init", path, "--database", database))
    done(bare_balsam("--site", path, "app", "--name", "a", "--exec", "/bin/true"))
    words = ("--name", "j{i}", "--workflow", "w", "--app", "a", "--array", "1-5", "--yes")
    done(bare_balsam("--site", path, "job", *words))
    return path


def done(result: Result) -> str:
    """Return the output of a command that must succeed, and say nothing beside it."""
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


def error(result: Result, code: int = 1) -> str:
    """Return the one line of a refusal."""
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    line = result.stderr.splitlines()[-1]
    assert line.startswith("balsam: error: ") or code == 2
    return line


def names(balsam: Balsam) -> list[str]:
    return [job["name"] for job in json.loads(done(balsam("ls", "--json")))]


ALL = [f"j{i}" for i in range(1, 6)]


# every verb ------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["migrate", "backup", "restore", "copy", "check", "vacuum"])
def test_help_has_an_example(bare_balsam: Balsam, verb: str) -> None:
    text = done(bare_balsam("db", verb, "--help"))
    assert f"balsam db {verb}" in text
    assert "example" in text


@pytest.mark.parametrize(
    "words",
    [
        ("migrate",),
        ("backup",),
        ("restore", "x.db", "--yes"),
        ("copy", "--to", "postgres"),
        ("check",),
        ("vacuum",),
    ],
)
def test_without_a_site(bare_balsam: Balsam, words: tuple[str, ...]) -> None:
    assert "no Balsam site" in error(bare_balsam("db", *words))


@pytest.mark.parametrize(
    "words", [(), ("copy",), ("restore",), ("copy", "--to"), ("backup", "a", "b"), ("mend",)]
)
def test_wrong_use(bare_balsam: Balsam, words: tuple[str, ...]) -> None:
    error(bare_balsam("db", *words), 2)


# upgrades --------------------------------------------------------------------------------


def test_nothing_to_upgrade(balsam: Balsam) -> None:
    for words in ((), ("--dry-run",), ("--no-backup",)):
        assert "nothing to do" in done(balsam("db", "migrate", *words))


@pytest.mark.parametrize("database", ["sqlite"])
def test_an_upgrade(balsam: Balsam, site: Path) -> None:
    """A site as an older Balsam left it."""
    downgrade(site / "balsam.db")
    assert "`balsam db migrate`" in error(balsam("ls"))
    before = (site / "balsam.db").read_bytes()
    told = done(balsam("db", "migrate", "--dry-run"))
    would = f"Would upgrade the database from schema 0001 to {REVISION}:\n  0002  Retry"
    assert told.startswith(would)
    assert (site / "balsam.db").read_bytes() == before
    told = done(balsam("db", "migrate"))
    match = re.search(rf"^Backup: (.*/backup/before-migration-0001-{STAMP}\.db)\n", told)
    assert match
    assert f"Upgraded the database from schema 0001 to {REVISION}." in told
    assert names(balsam) == ALL
    done(balsam("db", "restore", match[1], "--yes"))
    assert names(balsam) == ALL


def downgrade(file: Path) -> None:
    """Undo what all later revisions do to the tables."""
    connection = sqlite3.connect(file)
    batch_job_columns = (
        *("scheduler", "name", "output_file", "scheduler_state", "owner", "host", "cancel_reason"),
        *("nodes", "submitted_at", "starts_at", "started_at", "ended_at", "seen_at", "service_id"),
        *("exit_code", "tags"),
    )
    for name in batch_job_columns:
        connection.execute(f"ALTER TABLE batch_jobs DROP COLUMN {name}")
    app_columns = ("error_handler", "timeout_handler", "conda", "environ", "parameters")
    for name in (*app_columns, "container", "function", "modules"):
        connection.execute(f"ALTER TABLE apps DROP COLUMN {name}")
    connection.executescript(
        """
        ALTER TABLE jobs DROP COLUMN payload; ALTER TABLE attempts DROP COLUMN result;
        DROP TABLE transfers; DROP TABLE services; ALTER TABLE launchers DROP COLUMN tags;
        ALTER TABLE launchers DROP COLUMN memory_mib;
        ALTER TABLE launchers DROP COLUMN jobs_of; ALTER TABLE launchers DROP COLUMN ends_at;
        ALTER TABLE launchers DROP COLUMN scheduler_id;
        DROP TABLE run_times; ALTER TABLE attempts DROP COLUMN placement;
        ALTER TABLE jobs DROP COLUMN signal; ALTER TABLE apps DROP COLUMN signal;
        ALTER TABLE launchers DROP COLUMN kind;
        DROP INDEX ix_jobs_queue; DROP INDEX ix_jobs_retry_at; DROP INDEX ix_jobs_to_stage;
        DROP INDEX ix_jobs_batch_job_id;
        ALTER TABLE jobs DROP COLUMN retry; ALTER TABLE jobs DROP COLUMN retry_at;
        ALTER TABLE jobs DROP COLUMN timeouts; ALTER TABLE jobs DROP COLUMN crashes;
        ALTER TABLE apps DROP COLUMN retry;
        ALTER TABLE launchers DROP COLUMN lease_number; ALTER TABLE launchers DROP COLUMN leased;
        CREATE INDEX ix_jobs_queue ON jobs (priority);
        UPDATE alembic_version SET version_num = '0001';
        """
    )
    connection.close()


# backups ---------------------------------------------------------------------------------


def test_backup_and_restore(balsam: Balsam, site: Path) -> None:
    told = done(balsam("db", "backup"))
    match = re.fullmatch(
        rf"Backup: (.*/backup/balsam-{STAMP}\.db) \(5 jobs, 13 rows, 0\.\d MB, verified\)\n", told
    )
    assert match
    done(balsam("rm", "jobs", "--name", "j1", "--force"))
    asked = balsam("db", "restore", match[1], stdin="n\n")
    assert asked.returncode == 1
    assert re.search(r"Replace all jobs of .*/site by the 5 jobs of the backup of 2", asked.stderr)
    assert names(balsam) == ALL[1:]
    told = done(balsam("db", "restore", match[1], stdin="y\n"))
    assert re.search(rf"^Backup of what was there: .*before-restore-{STAMP}\.db$", told, re.M)
    assert told.endswith(f"Restored 5 jobs from {match[1]}.\n")
    assert names(balsam) == ALL


def test_nobody_is_there_to_answer(balsam: Balsam, site: Path, tmp_path: Path) -> None:
    done(balsam("db", "backup", tmp_path / "b.db"))
    assert "--yes" in error(balsam("db", "restore", tmp_path / "b.db"), 2)
    assert not (site / "backup").exists()


def test_backup_json(balsam: Balsam, tmp_path: Path, database: str) -> None:
    told = json.loads(done(balsam("db", "backup", "b.db", "--json")))
    assert told["file"] == str(tmp_path / "b.db")
    assert told["tables"]["jobs"]["rows"] == 5
    assert re.fullmatch("[0-9a-f]{16}", told["tables"]["jobs"]["checksum"])
    assert (told["revision"], told["system"]) == (
        REVISION,
        "sqlite" if database == "sqlite" else "postgresql",
    )
    assert told["made_at"].endswith("Z")
    assert "key" not in told


def test_files_are_named_in_errors(balsam: Balsam, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database")
    for name in ("text", "missing", "."):
        assert str(tmp_path) in error(balsam("db", "restore", name, "--yes"))
    assert "already" in error(balsam("db", "backup", "text"))
    assert "cannot write" in error(balsam("db", "backup", "no/such/directory/b.db"))


def test_while_a_launcher_works(
    balsam: Balsam, site: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    """It is named, and a backup can be made all the same."""
    launcher = subprocess.Popen(
        [str(BIN / "balsam"), "launcher", "--consume-all", "--persistent"],
        env=environ,
        stdout=subprocess.DEVNULL,
    )
    client = open_client(site)
    try:
        wait_until(client.launchers, launcher.poll)
        done(balsam("db", "backup", "b.db"))
        for words in (("restore", "b.db", "--yes"), ("copy", "--to", "postgres")):
            told = error(balsam("db", *words))
            assert re.search(rf"launcher 1 of \S+ \(host \S+, process {launcher.pid}\b", told), told
        done(balsam("db", "check"))
        done(balsam("db", "vacuum"))
    finally:
        client.close()
        launcher.terminate()
        launcher.wait()
    assert not (site / "balsamdb").exists()
    done(balsam("db", "restore", "b.db", "--yes"))
    assert names(balsam) == ALL


# checks ----------------------------------------------------------------------------------


def test_a_sound_site(balsam: Balsam, database: str) -> None:
    assert done(balsam("db", "check")) == "The database is sound.\n"
    told = json.loads(done(balsam("db", "check", "--json")))
    assert told == {
        "damages": [],
        "unchecked": "",
        "findings": [],
        "repaired": [],
        "sound": True,
    }


@pytest.mark.parametrize("database", ["sqlite"])
def test_an_unsound_site(balsam: Balsam, site: Path) -> None:
    connection = sqlite3.connect(site / "balsam.db")
    connection.execute("UPDATE jobs SET launcher_id = 9 WHERE id > 1")
    connection.execute("DELETE FROM events WHERE job = 2")
    connection.commit()
    connection.close()
    found = balsam("db", "check")
    assert found.returncode == 1
    assert found.stdout.splitlines() == [
        "1 jobs without an event: 2",
        "  no repair is surely right; look at them with `balsam show`",
        "4 jobs leased by launchers that have ended, or never were: 2, 3, 4, 5",
        "  --repair: they are given back, to run again",
    ]
    (first, second) = json.loads(balsam("db", "check", "--json").stdout)["findings"]
    assert first == {
        "name": "no history",
        "what": "jobs without an event",
        "count": 1,
        "first": [2],
        "repair": "",
    }
    assert second["name"] == "lease of the ended"
    mended = balsam("db", "check", "--repair")
    assert mended.returncode == 1
    assert "  mended: they are given back, to run again" in mended.stdout
    assert balsam("db", "check").stdout.count("jobs") == 1


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_damaged_site(balsam: Balsam, site: Path) -> None:
    done(balsam("db", "backup", "b.db"))
    (site / "balsam.db").write_bytes(b"x" * 100_000)
    assert "damaged" in error(balsam("db", "check"))
    told = done(balsam("db", "restore", "b.db", "--yes"))
    match = re.search(r"What was there is damaged; it is kept in (.*)", told)
    assert match
    assert (Path(match[1]) / "balsam.db").read_bytes() == b"x" * 100_000
    assert names(balsam) == ALL
    assert done(balsam("db", "check")) == "The database is sound.\n"


def test_vacuum(balsam: Balsam, database: str) -> None:
    result = balsam("db", "vacuum")
    told = r"The database took \d+\.\d MB and takes \d+\.\d MB now\.\n"
    assert re.fullmatch(told, done(result))
    assert ("of room in" in result.stderr) is (database == "sqlite")
    assert names(balsam) == ALL


# another database ------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["sqlite"])
def test_to_a_server_of_the_sites_own_and_back(balsam: Balsam, site: Path) -> None:
    moved = balsam("db", "copy", "--to", "postgres")
    told = done(moved)
    assert re.search(r"^jobs +\| 5    \| [0-9a-f]{16}$", told, re.M)
    assert f"Copied to {site}/balsamdb; each table was read back and is the same." in told
    assert f"The old database keeps its rows: {site}/balsam.db" in told
    assert moved.stderr == f"balsam: making a database server in {site}/balsamdb\n"
    assert json.loads(done(balsam("which", "--json")))["database"] != f"sqlite:///{site}/balsam.db"
    assert "running" in done(balsam("server", "--status"))
    assert names(balsam) == ALL
    done(balsam("launcher", "--consume-all"))
    done(balsam("job", "--name", "j6", "--workflow", "w", "--app", "a", "--yes"))
    assert done(balsam("db", "check")) == "The database is sound.\n"
    done(balsam("db", "backup"))
    assert "--overwrite" in error(balsam("db", "copy", "--to", "sqlite"))
    done(balsam("db", "copy", "--to", "sqlite", "--overwrite"))
    assert names(balsam) == [*ALL, "j6"]
    assert postmaster.running(site / "balsamdb") is None
    # And once more, to the server that is there.
    told = balsam("db", "copy", "--to", "postgres", "--overwrite").stderr
    assert "started the database server" in told
    assert names(balsam) == [*ALL, "j6"]


def test_copy_json(balsam: Balsam, site: Path, database: str) -> None:
    to = "postgres" if database == "sqlite" else "sqlite"
    told = json.loads(done(balsam("db", "copy", "--to", to, "--no-switch", "--json")))
    assert told["tables"]["jobs"]["rows"] == 5
    assert told["switched"] is False
    if to == "sqlite":
        assert told["target"] == f"{site}/balsam.db"
    done(balsam("job", "--name", "later", "--workflow", "w", "--app", "a", "--yes"))


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_server_that_cannot_be_made(balsam: Balsam, site: Path) -> None:
    """Nothing of it is left, and the site goes on."""
    (site / "balsamdb").mkdir()
    (site / "balsamdb" / "mine").write_text("x")
    error(balsam("db", "copy", "--to", "postgres"))
    assert [file.name for file in (site / "balsamdb").iterdir()] == ["mine"]
    (site / "balsamdb" / "mine").unlink()
    (site / "balsamdb").rmdir()
    (site / "log").rmdir()
    (site / "log").write_text("in the way of the server's log")
    before = sorted(file.name for file in site.iterdir())
    error(balsam("db", "copy", "--to", "postgres"))
    assert sorted(file.name for file in site.iterdir()) == before
    assert names(balsam) == ALL
    (site / "log").unlink()
    done(balsam("db", "copy", "--to", "postgres"))
    assert names(balsam) == ALL


def test_a_password_is_not_told(balsam: Balsam) -> None:
    url = "postgresql://me:secret@127.0.0.1:1/x"
    told = error(balsam("db", "copy", "--to", url))
    assert "secret" not in told
    assert "127.0.0.1" in told
