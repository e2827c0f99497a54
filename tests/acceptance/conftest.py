"""The command line as users have it: the installed executable, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Balsam = Callable[..., "subprocess.CompletedProcess[str]"]

#: Where the executables of this installation are.
BIN = Path(sys.executable).parent


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own and nothing of Balsam but that."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("BALSAM_", "_BALSAM"))}
    return {
        **clean,
        "PATH": f"{BIN}{os.pathsep}{clean.get('PATH', '')}",
        "BALSAM_HOME": str(tmp_path / "home"),
    }


@pytest.fixture
def bare_balsam(tmp_path: Path, environ: dict[str, str]) -> Balsam:
    """Run `balsam ARGV…` where no site is, and return the completed process."""

    def run(
        *argv: object,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "balsam"), *map(str, argv)],
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            env={**environ, **(env or {})},
            cwd=cwd or tmp_path,
            timeout=timeout,
        )

    return run


@pytest.fixture
def site(tmp_path: Path, bare_balsam: Balsam) -> Path:
    """A new, empty site."""
    path = tmp_path / "site"
    made = bare_balsam("init", path)
    assert made.returncode == 0, made.stderr
    return path


@pytest.fixture
def balsam(site: Path, environ: dict[str, str], bare_balsam: Balsam) -> Balsam:
    """Run `balsam ARGV…` with `site` activated, and return the completed process.

    `stdin` is text for standard input (default: nothing), `env` is added to the
    environment, `cwd` is the working directory (default: beside the site).
    """
    environ["BALSAM_DB_PATH"] = str(site)
    return bare_balsam
