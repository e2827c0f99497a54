"""A server that goes away under a program whose threads share a connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from balsam import config
from balsam.client.connect import create_site
from balsam.client.local import LocalClient
from tests import postgres
from tests.integration.conftest import wait_until

THREADS = 6
#: Longer than any test may take: a thread that waits for its whole time never goes on.
BUSY_SECONDS = 100_000.0


@pytest.fixture
def client(server: postgres.Server, tmp_path: Path) -> Iterator[LocalClient]:
    site = tmp_path / "site"
    create_site(site, server.new_database())
    settings = config.load(site)
    settings.database.busy_seconds = BUSY_SECONDS
    client = LocalClient(site, settings)
    yield client
    client.close()


@contextmanager
def writers(client: LocalClient) -> Iterator[list[int]]:
    """Have threads write without a pause; give how often each did."""
    done = [0] * THREADS
    over = threading.Event()

    def write(which: int) -> None:
        while not over.is_set():
            client.reserve_jobs(1)
            done[which] += 1

    threads = [threading.Thread(target=write, args=(i,), daemon=True) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    yield done
    over.set()
    for thread in threads:
        thread.join()


def test_all_threads_go_on_after_the_server_was_away(
    client: LocalClient, server: postgres.Server
) -> None:
    with writers(client) as done:
        for _ in range(3):
            before = done.copy()
            wait_until(lambda was=before: all(a > b for a, b in zip(done, was, strict=True)))
            server.kill()
            server.start()
        before = done.copy()
        wait_until(lambda: all(a > b for a, b in zip(done, before, strict=True)), lambda: done)
    assert client.reserve_jobs(1) > [sum(done)], "a number was given twice"
