"""Where a test hands in requests, and asks after them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from balsam.model.batch_job import BatchState
from balsam.schedulers.command import Command
from balsam.schedulers.scheduler import Answer, Status, Submission
from tests.contract.schedulers.system import Fate, System

#: Seconds that a command may take; a fake is a new interpreter each time.
COMMAND_SECONDS = 30.0
_BODY = """
printf 'in %s\\n' "$PWD"
while [ ! -e {end} ]; do sleep 0.05; done
exit $(cat {end})
"""


class Desk:
    """Submits scripts to a system by its adapter, and waits for what becomes of them."""

    def __init__(self, system: System, path: Path) -> None:
        self.system = system
        self.path = path
        self.submissions: dict[str, Submission] = {}
        #: All commands that were run.
        self.calls: list[tuple[str, ...]] = []
        self._run = Command(COMMAND_SECONDS, system.environ)

    def run(self, argv: Sequence[str], stdin: str = "") -> Answer:
        self.calls.append(tuple(argv))
        return self._run(argv, stdin)

    def write(self, name: str = "balsam.test-1_a", **changes: object) -> Submission:
        """Write a script with its directives; return what asks for it."""
        self.path.mkdir(exist_ok=True)
        script = self.path / f"{name}.sh"
        submission = Submission(
            name=name,
            script=str(script),
            output=str(self.path / f"{name}.out"),
            directory=str(self.path),
            num_nodes=1,
            minutes=5,
            cores_per_node=self.system.cores_per_node,
        )
        submission = msgspec.structs.replace(submission, **changes)  # type: ignore[arg-type]
        directives = self.system.scheduler.directives(submission)
        body = _BODY.format(end=shlex.quote(f"{script}.end"))
        script.write_text("\n".join(["#!/bin/bash", *directives, body]))
        script.chmod(0o755)
        return submission

    def submit(self, name: str = "balsam.test-1_a", **changes: object) -> str:
        submission = self.write(name, **changes)
        scheduler_id = self.system.scheduler.submit(self.run, submission)
        self.submissions[scheduler_id] = submission
        return scheduler_id

    def running(self, name: str = "balsam.test-1_a", **changes: object) -> str:
        """Submit a script and let it run."""
        scheduler_id = self.submit(name, **changes)
        self.system.start(scheduler_id)
        return scheduler_id

    def end(self, scheduler_id: str, fate: Fate) -> None:
        submission = self.submissions[scheduler_id]
        if fate in (Fate.FINISHED, Fate.FAILED):
            file = Path(f"{submission.script}.end")
            file.with_suffix(".new").write_text("3" if fate is Fate.FAILED else "0")
            file.with_suffix(".new").rename(file)
        self.system.end(scheduler_id, submission.script, fate)

    def status(self, scheduler_id: str) -> Status | None:
        return self.system.scheduler.status(self.run, [scheduler_id]).get(scheduler_id)

    def ask(self, scheduler_id: str) -> Status | None:
        """Return what is known of a request by its status, else by its history."""
        found = self.status(scheduler_id)
        if found is None:
            history = self.system.scheduler.history(self.run, [scheduler_id])
            found = history.get(scheduler_id)
        return found

    def wait_for(self, scheduler_id: str, *states: BatchState) -> Status:
        """Wait until a request has one of these states; return what is said of it."""
        seen: list[Status] = []

        def there() -> bool:
            if (found := self.ask(scheduler_id)) and found not in seen:
                seen.append(found)
            return found is not None and found.state in states

        wait_until(there, self.system.patience, lambda: "\n".join(map(str, seen)))
        return seen[-1]


def wait_until(
    condition: Callable[[], bool], seconds: float, evidence: Callable[[], object]
) -> None:
    """Return as soon as *condition* is true; fail with the *evidence*."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not so after {seconds} s:\n{evidence()}")
        time.sleep(0.05)
