"""A real site for each test, on each database there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from balsam import config
from balsam.client.connect import create_site
from balsam.client.local import LocalClient
from balsam.model.app import App
from tests.contract.calls import fill
from tests.contract.pilot import Clock, Pilot


@pytest.fixture
def site(database: str, tmp_path: Path, balsam_home: Path) -> Path:
    """A new site."""
    balsam_home.mkdir()
    (balsam_home / "settings.toml").write_text(f'[database]\nurl = "{database}"\n')
    path = tmp_path / "site"
    create_site(path)
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
