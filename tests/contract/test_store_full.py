"""A disk or a quota that is full, and room made after that."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balsam import config
from balsam.client.connect import create_site, open_client
from balsam.client.local import LocalClient
from balsam.errors import StoreFull
from balsam.model.job import Job
from balsam.model.query import ALL
from tests.contract.calls import WRITES, checkpointed, fill, look, on_sqlite
from tests.contract.pilot import add


def grow_until_full(client: LocalClient) -> int:
    """Create jobs until the database refuses, and return how many it took."""
    taken = 0
    batch = [Job(name="big", workflow="w", application="a", description="x" * 2000)] * 50
    full: StoreFull | None = None
    while full is None and taken < 50_000:
        try:
            taken += len(client.create_jobs(batch))
        except StoreFull as error:
            full = error
    assert full is not None
    assert "\n" not in str(full)
    return taken


@pytest.fixture
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own, of the size asked for."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system")
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("small", ["3m"], indirect=True)
def test_a_full_disk(small: Path) -> None:
    create_site(small / "site")
    (small / "ballast").write_bytes(bytes(500_000))
    client = LocalClient(small / "site", config.load(small / "site"))
    fill(client)
    taken = grow_until_full(client)
    assert client.count_jobs(ALL) == taken + 3
    before = look(client)
    (small / "ballast").unlink()
    assert look(client) == before
    add(client, "fits")
    assert client.count_jobs(ALL) == taken + 4
    client.close()
    connection = sqlite3.connect(small / "site" / "balsam.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.parametrize("small", ["64k"], indirect=True)
def test_a_full_disk_makes_no_site(small: Path) -> None:
    with pytest.raises(StoreFull):
        create_site(small / "site")
    assert not config.is_site(small / "site")
    subprocess.run(["mount", "-o", "remount,size=10m", small], check=True)
    create_site(small / "site")
    client = open_client(small / "site")
    assert client.count_jobs(ALL) == 0
    client.close()


@on_sqlite
@pytest.mark.parametrize("write", ["create_jobs", "update_jobs", "report", "kill_jobs"])
def test_a_database_that_may_not_grow(impatient: LocalClient, site: Path, write: str) -> None:
    """As a quota: SQLite's own limit of pages says the same as a full disk."""
    checkpointed(site)
    engine = impatient._store.engine
    engine.dispose()

    def set_limit(connection: Any, _record: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    import sqlalchemy as sa

    sa.event.listen(engine, "connect", set_limit)
    taken = grow_until_full(impatient)
    before = look(impatient)
    assert impatient.count_jobs(ALL) == taken + 3
    with pytest.raises(StoreFull):
        impatient.update_jobs(ALL, {"description": "y" * 10_000})
    assert look(impatient) == before
    sa.event.remove(engine, "connect", set_limit)
    engine.dispose()
    assert look(impatient) == before
    WRITES[write](impatient)
    assert look(impatient) != before
