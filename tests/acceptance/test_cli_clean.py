"""`balsam clean`: tells, asks, removes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.acceptance.conftest import Balsam


def test_clean(balsam: Balsam, site: Path) -> None:
    shard = site / "data" / ".arguments" / "ab"
    shard.mkdir(parents=True)
    for name, age in (("old", 0), ("young", None)):
        (shard / name).write_bytes(bytes(3 << 10))
        if age is not None:
            os.utime(shard / name, (age, age))
    done = balsam("clean", "--dry-run", "--versions")
    assert done.returncode == 0, done.stderr
    what = "1 files or directories (3.0 KiB) and 0 apps"
    assert f"Would remove {what}; nothing was changed." in done.stdout
    done = balsam("clean", stdin="n\n")
    assert done.returncode == 1
    assert "Nothing was removed." in done.stdout
    assert sorted(os.listdir(shard)) == ["old", "young"]
    done = balsam("clean", "--yes")
    assert done.stdout.endswith("Removed 1 files or directories (3.0 KiB).\n")
    assert os.listdir(shard) == ["young"]
    assert "nothing to remove" in balsam("clean").stdout


@pytest.mark.parametrize("days", ["0", "-1", "nan", "inf"])
def test_what_may_be_in_use_is_not_old(balsam: Balsam, days: str) -> None:
    done = balsam("clean", f"--older-than={days}", "--yes")
    assert done.returncode == 2
    assert "give days, at least 0.042" in done.stderr
