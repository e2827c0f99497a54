"""A few of the rounds that `make chaos` runs by the dozen, always the same ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("system", ["sqlite", "postgresql"])
def test_random_faults_lose_nothing(system: str) -> None:
    words = ["--seed", "1", "--rounds", "2", "--database", system]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 rounds good" in done.stdout
