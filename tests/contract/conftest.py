"""A real site for each test, on each database there is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from balsam import config
from balsam.client.connect import create_site
from balsam.client.local import LocalClient
from balsam.model.app import App
from tests import postgres
from tests.conftest import DATABASES
from tests.contract.calls import fill
from tests.contract.pilot import Clock, Pilot


class Patterns:
    """An empty site on each kind of database: made once, copied for each test."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._urls: dict[str, str] = {}

    def site(self, name: str, new_database: Callable[[], str]) -> tuple[Path, str]:
        """Return the site *name* and what its database is, made by *new_database*."""
        path = self._directory / name
        if name not in self._urls:
            url = new_database()
            create_site(path, url)
            self._urls[name] = url
        return path, self._urls[name]


@pytest.fixture(scope="session")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Patterns:
    return Patterns(tmp_path_factory.mktemp("patterns"))


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, patterns: Patterns) -> Iterator[str]:
    """The setting `database.url`; on a server a new database: of `site` if the test has it."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    server: postgres.Server = request.getfixturevalue("postgres_server")
    new = server.new_database
    url = new(patterns.site("postgresql", new)[1]) if "site" in request.fixturenames else new()
    yield url
    server.drop_database(url)


@pytest.fixture
def site(database: str, patterns: Patterns, tmp_path: Path, balsam_home: Path) -> Path:
    """A new site."""
    balsam_home.mkdir()
    (balsam_home / "settings.toml").write_text(f'[database]\nurl = "{database}"\n')
    path = tmp_path / "site"
    name = "sqlite" if database == "sqlite" else "postgresql"
    pattern, url = patterns.site(name, lambda: database)
    shutil.copytree(pattern, path)
    settings = path / config.SETTINGS_FILE
    settings.write_text(settings.read_text().replace(url, database))
    return path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(site: Path, clock: Clock) -> Iterator[LocalClient]:
    """A client of `site` with the app 'a', on `clock`."""
    client = LocalClient(site, config.load(site), clock)
    client.add_app(App(name="a", executable="/bin/true"))
    yield client
    client.close()


@pytest.fixture
def pilot(client: LocalClient, clock: Clock) -> Pilot:
    """A registered launcher, good for a minute."""
    return Pilot(client, clock)


@pytest.fixture
def rival(client: LocalClient, clock: Clock) -> Pilot:
    """Another launcher on the same site."""
    return Pilot(client, clock)


@pytest.fixture
def impatient(site: Path, clock: Clock) -> Iterator[LocalClient]:
    """A client with jobs that gives up after a twentieth of a second."""
    settings = config.load(site)
    settings.database.busy_seconds = 0.05
    client = LocalClient(site, settings, clock)
    fill(client)
    yield client
    client.close()


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a file system of its own, of the size asked for."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system")
    path = tmp_path / "small"

    def mount(size: str) -> Path:
        path.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            path.rmdir()
            pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
        return path

    yield mount
    if path.is_dir():
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def other(postgres_server: postgres.Server) -> Iterator[str]:
    """The URL of another new database."""
    url = postgres_server.new_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def target(database: str, other: str) -> str:
    """Where the site can be copied that is on `database`."""
    return other if database == "sqlite" else "sqlite"
