"""Every test of the suite runs on every system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.schedulers.desk import Desk
from tests.contract.schedulers.system import Faulty, System
from tests.contract.schedulers.systems import FAKES, REAL


@pytest.fixture(scope="session", params=[*FAKES, *REAL])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Each system, for all of its tests."""
    name: str = request.param
    with (FAKES | REAL)[name](tmp_path_factory.mktemp(name)) as system:
        yield system


@pytest.fixture
def system(opened: System) -> Iterator[System]:
    yield opened
    opened.clear()


@pytest.fixture
def desk(system: System, tmp_path: Path) -> Desk:
    return Desk(system, tmp_path / "desk")


@pytest.fixture(params=FAKES)
def faulty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Faulty]:
    """Each fake system, by itself."""
    name: str = request.param
    with FAKES[name](tmp_path / name) as system:
        yield system


@pytest.fixture
def faulty_desk(faulty: Faulty, tmp_path: Path) -> Desk:
    return Desk(faulty, tmp_path / "desk")
