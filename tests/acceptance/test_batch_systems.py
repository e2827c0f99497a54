"""The commands about batch jobs, on fake commands of all batch systems."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.acceptance.batch import batch_jobs, ok, refused
from tests.acceptance.conftest import Balsam
from tests.contract.schedulers.fake_system import FakeSystem
from tests.contract.schedulers.system import Fate, Fault
from tests.contract.schedulers.systems import FAKES


@pytest.fixture(params=FAKES)
def system(request: pytest.FixtureRequest, tmp_path: Path, environ: dict[str, str]) -> FakeSystem:
    """A batch system whose commands are all that is in PATH."""
    found = FakeSystem(request.param, tmp_path / "system")
    environ["PATH"] = found.environ["PATH"]
    return found


def test_a_request_from_its_submission_to_its_end(
    system: FakeSystem, balsam: Balsam, site: Path
) -> None:
    system.fill()
    words = ("-n", 2, "-t", 5, "-q", system.queue)
    made = json.loads(ok(balsam("submit-launch", *words, "--json")))
    assert (made["scheduler"], made["state"], made["queue"]) == (
        system.name,
        "queued",
        system.queue,
    )
    text = (site / "qsubmit" / "qlaunch1.sh").read_text()
    assert "--time-limit-minutes 4 --batch-job 1" in text
    assert batch_jobs(balsam)[0]["state"] == "queued"
    system.start(made["scheduler_id"])
    assert batch_jobs(balsam)[0]["state"] == "running"
    assert "| running | runs " in ok(balsam("queue", "ls"))
    ok(balsam("queue", "cancel", 1, "--yes"))
    system.end(made["scheduler_id"], made["script"], Fate.CANCELLED)
    (found,) = batch_jobs(balsam)
    assert (found["state"], found["cancel_reason"]) == ("cancelled", found["message"])


def test_a_dry_run_shows_the_command(system: FakeSystem, balsam: Balsam, site: Path) -> None:
    text = ok(balsam("submit-launch", "-n", 2, "-t", 5, "-q", system.queue, "--dry-run"))
    command = text.splitlines()[-1]
    assert shlex.split(command)[0] in ("sbatch", "qsub", "bsub", "flux")
    assert f"{site}/qsubmit/qlaunch0.sh" in command
    assert batch_jobs(balsam) == []


def test_queues_are_told(system: FakeSystem, balsam: Balsam) -> None:
    found = json.loads(ok(balsam("queue", "limits", "--json")))
    assert system.queue in [each["name"] for each in found]
    assert f"Batch system: {system.name}\n" in ok(balsam("queue", "limits"))
    assert f"batch system | {system.name}\n" in balsam("site", "detect").stdout
    too_long = ("-n", 1, "-t", system.max_minutes + 1, "-q", system.queue)
    said = refused(balsam("submit-launch", *too_long))
    assert f"gives at most {system.max_minutes} minutes; {system.max_minutes + 1} are" in said
    assert "has no queue 'nope'; it has " in refused(
        balsam("submit-launch", "-n", 1, "-t", 5, "-q", "nope")
    )
    assert batch_jobs(balsam) == []


def test_its_refusal_is_told_and_kept(system: FakeSystem, balsam: Balsam, site: Path) -> None:
    (site / "balsam.toml").write_text(f"[nodes]\ncores = {system.cores_per_node}\n")
    done = balsam("submit-launch", "-n", 1, "-t", 5, "-q", "nope", "--no-check")
    said = refused(done, 1)
    (found,) = batch_jobs(balsam)
    assert (found["state"], found["scheduler_id"]) == ("submit_failed", "")
    assert found["message"] in said


def test_while_it_is_away_the_record_is_shown(
    system: FakeSystem, balsam: Balsam, site: Path
) -> None:
    # Fakes that are away do not tell either what they are.
    (site / "balsam.toml").write_text(f'[scheduler]\nname = "{system.name}"\n')
    system.fill()
    ok(balsam("submit-launch", "-n", 2, "-t", 5, "-q", system.queue))
    system.fault(Fault.AWAY)
    done = balsam("queue", "ls", "--all")
    assert "| queued " in ok(done)
    assert "balsam: warning: " in done.stderr
    assert "what follows is " in done.stderr
    refused(balsam("queue", "limits"), 1)
    refused(balsam("queue", "cancel", 1, "--yes"), 1)
    (kept,) = batch_jobs(balsam, "--no-refresh")
    assert (kept["state"], kept["cancel_reason"][:12]) == ("queued", "cancelled by")
    system.fault(None)
    ok(balsam("queue", "ls"))  # it is asked again to cancel it
