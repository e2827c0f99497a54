"""The documents: what they say to type works, and what is written from the code is fresh."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    ROOT / "docs" / "tutorial.md",
    *sorted((ROOT / "docs" / "guide").glob("*.md")),
]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Pages whose commands need a program that Balsam does not.
NEEDS = {"mpi": "mpiexec", "snakemake": "snakemake"}
#: Where `tools/install-test-needs` puts Snakemake.
SNAKEMAKE = ROOT / "build" / "snakemake" / "bin"
#: Blocks that are for reading only: what sets Balsam up cannot be run inside it.
READING = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script(page: Path) -> str:
    """Return one bash script of all blocks of *page*: Python ones in one process, in order."""
    parts = ["set -eu -o pipefail"]
    pythons: list[str] = []
    blocks = BLOCK.findall(page.read_text())
    for number, (language, text) in enumerate(blocks):
        if language == "bash":
            parts.append(text)
            continue
        # What one Python block defines, the next may use; shell blocks come between.
        pythons.append(text)
        code = "".join(pythons)
        last = all(kind != "python" for kind, _ in blocks[number + 1 :])
        if last:
            parts.append(f"python3 - <<'END_OF_PYTHON'\n{code}\nEND_OF_PYTHON")
    return "\n".join(parts)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs_as_written(page: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    environ["PATH"] += f"{os.pathsep}{SNAKEMAKE}"
    program = NEEDS.get(page.stem, "bash")
    if not os.environ.get("CI") and shutil.which(program, path=environ["PATH"]) is None:
        pytest.skip(f"{program} is not in PATH")
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        ["bash", "-c", script(page)],
        cwd=work,
        env={**environ, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr


def test_readme_opens_with_the_two_commands() -> None:
    first = READING.search((ROOT / "README.md").read_text())
    assert first is not None
    commands = [line.split("#")[0].strip() for line in first[1].splitlines()]
    assert commands == ["make demo", "make test"]


def test_make_targets_that_documents_name_exist() -> None:
    named = set()
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for block in READING.findall(page.read_text()):
            named |= set(re.findall(r"^make (\w+)", block, re.MULTILINE))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= targets


def test_reference_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_site_of_documents_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install .[docs]")
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install .[docs]")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        # Nothing is loaded from another host: no style, font, script or picture.
        loaded = re.findall(
            r'<(?:link|script|img)[^>]+(?:href|src)="(https?://[^"]+)"', page.read_text()
        )
        assert loaded == [], page


def test_every_page_is_reachable() -> None:
    nav = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in nav
