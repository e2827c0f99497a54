"""What can be broken: servers of the test's own, file systems that fill up, clocks that jump."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from balsam.model.query import Query
from tests import postgres
from tests.integration.conftest import BIN, Campaign, Launcher, Start, wait_until
from tests.proxy import Proxy


@pytest.fixture
def server(balsam_home: Path) -> Iterator[postgres.Server]:
    """A server of the test's own, to be killed: it keeps what it confirmed."""
    server = postgres.Server(postgres.require(), postgres.DURABLE)
    yield server
    server.stop()


@pytest.fixture
def proxy(server: postgres.Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


def settings(campaign: Campaign, text: str) -> None:
    """Write the site's settings file."""
    (campaign.site / "balsam.toml").write_text(text)


def note_executions(campaign: Campaign, app: str, after: str = "") -> Path:
    """Register *app*, whose runs write their job and attempt to a file; return that."""
    executed = campaign.site / "executed"
    executed.touch()
    campaign.app(app, f"#\necho $BALSAM_JOB_ID $BALSAM_ATTEMPT >> {executed}\n{after}")
    return executed


def executions(executed: Path) -> int:
    return len(executed.read_text().splitlines())


def all_finished(campaign: Campaign) -> bool:
    return set(campaign.states()) == {"JOB_FINISHED"}


@contextmanager
def persistent(
    campaign: Campaign, start: Start, count: int, *args: object, **options: dict[str, str]
) -> Iterator[list[Launcher]]:
    """Have *count* launchers there at the same time; end them in order when the block ends."""
    before = len(campaign.client.launchers())
    launchers = [start("--persistent", *args, **options) for _ in range(count)]
    wait_until(
        lambda: len(campaign.client.launchers()) == before + count,
        lambda: [launcher.output for launcher in launchers],
    )
    yield launchers
    for launcher in launchers:
        launcher.process.terminate()
    for launcher in launchers:
        launcher.wait()


def balsam(
    campaign: Campaign, *words: str, env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start `balsam WORDS…` on the campaign's site."""
    return subprocess.Popen(
        [str(BIN / "balsam"), "--site", str(campaign.site), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
        text=True,
    )


def array(count: int, workflow: str = "w") -> list[str]:
    """Return the words of a command that adds *count* jobs of the app 'true'."""
    named = ["--name", "n{i}", "--workflow", workflow, "--application", "true"]
    return ["job", "--array", f"0-{count - 1}", *named, "--yes"]


def count_jobs(campaign: Campaign) -> int:
    return campaign.client.count_jobs(Query())


# file systems -------------------------------------------------------------------------------

Mount = Callable[[Path, str], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mount a new file system of the size asked for on a directory."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted: list[Path] = []

    def mount(where: Path, size: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
        mounted.append(where)

    yield mount
    for where in reversed(mounted):
        subprocess.run(["umount", where], check=True)


def fill_up(directory: Path) -> Path:
    """Take all space that is left; return the file to remove."""
    ballast = directory / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return ballast
