"""The command line as users have it: the installed executable, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Result = subprocess.CompletedProcess[str]
#: Runs `balsam ARGV…`; see `runner`.
Balsam = Callable[..., Result]

#: Where the executables of this installation are.
BIN = Path(sys.executable).parent


def clean_environ(home: Path) -> dict[str, str]:
    """Return an environment with *home* as Balsam's and nothing else of Balsam in it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("BALSAM_", "_BALSAM"))}
    return {
        **clean,
        "PATH": f"{BIN}{os.pathsep}{clean.get('PATH', '')}",
        "BALSAM_HOME": str(home),
    }


def runner(environ: Mapping[str, str], directory: Path) -> Balsam:
    """Return a function that runs `balsam ARGV…` and returns the completed process.

    Its `stdin` is text for standard input (default: nothing), `env` is added to the
    environment, `cwd` is the working directory (default: *directory*).
    """

    def run(
        *argv: object,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
    ) -> Result:
        return subprocess.run(
            [str(BIN / "balsam"), *map(str, argv)],
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            env={**environ, **(env or {})},
            cwd=cwd or directory,
            timeout=timeout,
        )

    return run


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment that the executables of a test get."""
    return clean_environ(tmp_path / "home")


@pytest.fixture
def bare_balsam(tmp_path: Path, environ: dict[str, str]) -> Balsam:
    """Run `balsam ARGV…` where no site is (see `runner`)."""
    return runner(environ, tmp_path)


@pytest.fixture
def site(tmp_path: Path, bare_balsam: Balsam) -> Path:
    """A new, empty site."""
    path = tmp_path / "site"
    made = bare_balsam("init", path)
    assert made.returncode == 0, made.stderr
    return path


@pytest.fixture
def balsam(site: Path, environ: dict[str, str], bare_balsam: Balsam) -> Balsam:
    """Run `balsam ARGV…` with `site` activated (see `runner`)."""
    environ["BALSAM_DB_PATH"] = str(site)
    return bare_balsam


# a campaign to read ----------------------------------------------------------------------


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Balsam:
    """Run `balsam ARGV…` on a site with jobs that ended and jobs that did not; only read it.

    | ids | name | workflow | app | state |
    | --- | --- | --- | --- | --- |
    | 1-5 | grain0 … grain4 | alloys/fcc | say | JOB_FINISHED |
    | 6 | broken | alloys/bcc | fail | FAILED (exit code 3) |
    | 7, 8 | parent, its child | tree | say | JOB_FINISHED |
    | 9, 10 | later, and after it last | later | say | PREPROCESSED, AWAITING_PARENTS |
    | 11 | unwanted | later | say | USER_KILLED |
    """
    directory = tmp_path_factory.mktemp("campaign")
    environ = clean_environ(directory / "home")
    environ["BALSAM_SITE"] = str(directory / "site")
    run = runner(environ, directory)

    def must(*argv: object) -> None:
        done = run(*argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"

    def job(name: str, workflow: str, app: str, *more: object) -> None:
        must("job", "--name", name, "--workflow", workflow, "--app", app, "--yes", *more)

    must("init", directory / "site")
    must("app", "--name", "say", "--exec", "/bin/echo", "--desc", "says its arguments")
    must("app", "--name", "fail", "--exec", "/bin/sh -c 'echo oops; exit 3'")
    grains = ("--args", "hello {i}", "--tag", "size={i}", "--data", '{"energy": {i}}')
    job("grain{i}", "alloys/fcc", "say", "--array", "0-4", *grains)
    job("broken", "alloys/bcc", "fail")
    job("parent", "tree", "say", "--args", "first")
    job("child", "tree", "say", "--args", "second", "--after", "7")
    must("launcher", "--consume-all")
    job("later", "later", "say")
    job("last", "later", "say", "--after", "9")
    job("unwanted", "later", "say")
    must("kill", "11", "--yes")
    return run
