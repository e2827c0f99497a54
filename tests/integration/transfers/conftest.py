"""Far sides that are real: sshd, rsync, HTTP, S3."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from balsam.config import TransferSettings
from balsam.transfers.files import Item, name_items
from balsam.transfers.mover import Delivery, Fetch
from balsam.transfers.movers import Movers
from balsam.transfers.progress import Progress
from balsam.transfers.urls import parse_url
from tests.integration.transfers.web import Web
from tests.sshd import Sshd, require

MARK = "0123abcd"


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    require("rsync")
    daemon = Sshd()
    yield daemon
    daemon.close()


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


@pytest.fixture
def settings(sshd: Sshd) -> TransferSettings:
    return TransferSettings(ssh=sshd.ssh, timeout_seconds=20.0)


MoversOf = Callable[[TransferSettings], Movers]


@pytest.fixture
def movers_of() -> Iterator[MoversOf]:
    """Makes movers, which are closed in the end."""
    made: list[Movers] = []

    def make(settings: TransferSettings) -> Movers:
        made.append(Movers(settings, {}))
        return made[-1]

    yield make
    for movers in made:
        movers.close()


@pytest.fixture
def movers(settings: TransferSettings, movers_of: MoversOf) -> Movers:
    return movers_of(settings)


class Mover:
    """Moves files once, between a directory of the test's and a URL."""

    def __init__(self, movers: Movers, here: Path) -> None:
        self._movers = movers
        self.here = here
        self.progress = Progress()
        here.mkdir(exist_ok=True)

    def fetch(self, url: str) -> list[str]:
        return self._movers.fetch(Fetch(parse_url(url), self.here, MARK, self.progress))

    def deliver(self, url: str, *names: str) -> list[str]:
        items: list[Item] = name_items(self.here, names)
        return self._movers.deliver(Delivery(parse_url(url), items, MARK, self.progress))


@pytest.fixture
def mover(movers: Movers, tmp_path: Path) -> Mover:
    return Mover(movers, tmp_path / "here")


@pytest.fixture(params=["local", "sftp", "scp", "rsync"])
def url_of(request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Returns the URL of a path on the far side, by each means that has paths."""
    if request.param == "local":
        return lambda path: f"local:{path}"
    return lambda path: f"{request.param}:127.0.0.1:{path}"


def tree(root: Path) -> dict[str, str]:
    """All files below *root*, with what is in them, and empty directories."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file():
            found[name] = path.read_text(errors="surrogateescape")
        elif not any(path.iterdir()):
            found[f"{name}/"] = ""
    return found


#: Passes bytes on as they come, up to so many.
_RELAY = """\
import os, select, sys
left = int(sys.argv[1])
while left > 0 and select.select([0], [], []) and (piece := os.read(0, min(left, 65536))):
    left -= len(piece)
    while piece:  # sftp does not let them block
        select.select([], [1], [])
        piece = piece[os.write(1, piece):]
"""


def other_ssh(directory: Path, sshd: Sshd, words: str) -> str:
    """Return an ssh command that runs the shell's *words*.

    In them SSH stands for the ssh that reaches *sshd*, and LIMIT for what lets some bytes pass.
    """
    relay = f"{shlex.quote(sys.executable)} -c {shlex.quote(_RELAY)}"
    ssh = f"ssh -F {shlex.quote(str(sshd.config))}"
    script = directory / "ssh"
    script.write_text(f"#!/bin/sh\n{words.replace('SSH', ssh).replace('LIMIT', relay)}\n")
    script.chmod(0o755)
    return str(script)


def fill(directory: Path, *names: str) -> None:
    """Write files whose content is their name."""
    for name in names:
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name, errors="surrogateescape")
