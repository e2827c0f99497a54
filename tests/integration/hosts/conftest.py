"""Four hosts, with sshd, for launchers on many nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts import Hosts, require


@pytest.fixture(scope="session")
def all_hosts() -> Iterator[Hosts]:
    require()
    hosts = Hosts(4)
    yield hosts
    hosts.close()


@pytest.fixture
def hosts(all_hosts: Hosts) -> Iterator[Hosts]:
    """Four hosts that all reach each other; nothing may be left on them."""
    yield all_hosts
    all_hosts.heal_all()
    try:
        all_hosts.wait_until_empty()
    finally:
        for number in range(1, len(all_hosts.names) + 1):
            all_hosts.kill_all(number)
