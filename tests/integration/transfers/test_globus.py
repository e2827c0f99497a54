"""Transfers by Globus, with globus-sdk, to a service of the test's own."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsam.config import TransferSettings
from balsam.errors import TransferError
from balsam.transfers import globus_tasks
from balsam.transfers.progress import Stopped
from tests.integration.conftest import wait_until
from tests.integration.transfers.conftest import Mover, MoversOf, fill, tree
from tests.integration.transfers.globus_service import OURS, THEIRS, TOKEN, GlobusService

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("globus_sdk"), reason="globus-sdk is missing: pip install it"
)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GlobusService]:
    for name in ("CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN"):
        monkeypatch.delenv(f"GLOBUS_{name}", raising=False)
    monkeypatch.setenv("GLOBUS_ACCESS_TOKEN", TOKEN)
    monkeypatch.setattr(globus_tasks, "GATHER", 0.0)
    monkeypatch.setattr(globus_tasks, "FIRST_LOOK", 0.05)
    (tmp_path / "far").mkdir()
    service = GlobusService(tmp_path, tmp_path / "far")
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_TRANSFER", service.url)
    yield service
    service.close()


@pytest.fixture
def settings(tmp_path: Path) -> TransferSettings:
    return TransferSettings(globus_endpoint=OURS, globus_root=str(tmp_path))


def together(works: dict[Mover, str]) -> dict[Mover, object]:
    """Have each mover fetch its path from the far endpoint; return names, or errors."""
    results: dict[Mover, object] = {}

    def fetch(mover: Mover, path: str) -> None:
        try:
            results[mover] = mover.fetch(f"globus://{THEIRS}{path}")
        except (TransferError, Stopped) as error:
            results[mover] = error

    threads = [threading.Thread(target=fetch, args=work) for work in works.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_there_and_back(mover: Mover, service: GlobusService, tmp_path: Path) -> None:
    """An answer that is lost makes no second task."""
    fill(mover.here, "a", "d/x")
    service.lose_answers = 1
    assert mover.deliver(f"globus://{THEIRS}/to", "a", "d") == ["a", "d"]
    assert tree(tmp_path / "far" / "to") == {"a": "a", "d/x": "d/x"}
    assert (mover.progress.files, mover.progress.bytes_done) == (2, 4)
    (task,) = service.submitted
    assert task["label"].startswith("Balsam stage out 0123abcd")
    assert (task["source_endpoint"], task["destination_endpoint"]) == (OURS, THEIRS)
    assert sum("/transfer" in asked for asked in service.asked) == 2
    mover.here = tmp_path / "back"
    mover.here.mkdir()
    assert mover.fetch(f"globus://{THEIRS}/to/d/") == ["d"]
    assert mover.fetch(f"globus://{THEIRS}/to/a") == ["a"]
    assert tree(mover.here) == {"a": "a", "d/x": "d/x"}
    assert len(list(mover.here.iterdir())) == 2


def test_one_task_for_many_jobs(
    movers_of: MoversOf,
    settings: TransferSettings,
    service: GlobusService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes when it is full. A file that is missing is its job's alone."""
    monkeypatch.setattr(globus_tasks, "GATHER", 60.0)
    monkeypatch.setattr(globus_tasks, "MOST_ITEMS", 4)
    shared = movers_of(settings)
    names = ["one", "two", "none", "three"]
    movers = {Mover(shared, tmp_path / name): f"/{name}" for name in names}
    fill(tmp_path / "far", "one", "two", "three")
    results = together(movers)
    for mover, path in movers.items():
        if path == "/none":
            assert "/none: FILE_NOT_FOUND" in str(results[mover])
        else:
            assert results[mover] == [path[1:]]
            assert tree(mover.here) == {path[1:]: path[1:]}
    (task,) = service.submitted
    assert len(task["DATA"]) == 4
    assert task["label"].endswith("and 3 more")


def test_what_keeps_a_task_is_told_and_a_stop_cancels_it(
    mover: Mover, service: GlobusService, tmp_path: Path
) -> None:
    fill(tmp_path / "far", "one")
    service.patch = {"nice_status": "PERMISSION_DENIED", "faults": 3}
    results: dict[Mover, object] = {}
    thread = threading.Thread(target=lambda: results.update(together({mover: "/one"})))
    thread.start()
    wait_until(lambda: bool(mover.progress.trouble))
    assert "PERMISSION_DENIED, 3 faults" in mover.progress.trouble
    mover.progress.stop()
    thread.join(60)
    assert isinstance(results[mover], Stopped)
    (task,) = service.tasks.values()
    wait_until(lambda: task["status"] == "FAILED")
    assert not (mover.here / "one").exists()


def test_what_globus_refuses(
    mover: Mover,
    service: GlobusService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tmp_path / "far", "one")
    service.patch = {"status": "FAILED", "fatal_error": {"description": "quota exceeded"}}
    with pytest.raises(TransferError, match=r"/one: Globus task .* failed: quota exceeded"):
        mover.fetch(f"globus://{THEIRS}/one")
    monkeypatch.setenv("GLOBUS_ACCESS_TOKEN", "another")
    with pytest.raises(TransferError, match="401 AuthenticationFailed: No such token"):
        mover.fetch(f"globus://{THEIRS}/one")
    monkeypatch.delenv("GLOBUS_ACCESS_TOKEN")
    with pytest.raises(TransferError, match="need a token"):
        mover.fetch(f"globus://{THEIRS}/one")


def test_what_is_not_set(movers_of: MoversOf, service: GlobusService, tmp_path: Path) -> None:
    mover = Mover(movers_of(TransferSettings()), tmp_path / "here")
    with pytest.raises(TransferError, match=r"transfers\.globus_endpoint"):
        mover.fetch(f"globus://{THEIRS}/one")
    elsewhere = TransferSettings(globus_endpoint=OURS, globus_root="/none")
    with pytest.raises(TransferError, match="is not below"):
        Mover(movers_of(elsewhere), tmp_path / "here").fetch(f"globus://{THEIRS}/one")
    assert not service.submitted


def test_the_package_is_missing(
    mover: Mover, service: GlobusService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "globus_sdk", None)
    with pytest.raises(TransferError, match=r"pip install 'balsam-flow\[globus\]'"):
        mover.fetch(f"globus://{THEIRS}/one")
