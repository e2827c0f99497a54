"""Run one hook of a job's app that is a method in Python: ``python -m balsam.hooks NAME``.

Launchers start it as a process of the job, in its directory, with the Python that the app was
registered with. What the method changes in ``self.job`` is stored, its state too.
"""

from __future__ import annotations

import base64
import os
import pickle
import shutil
import sys
from collections.abc import Iterable
from glob import glob
from typing import Any

import msgspec

from balsam.api import App, Job, State
from balsam.errors import InvalidInput, NotFound
from balsam.model.app import HOOKS
from balsam.model.job import EDITABLE

#: Where the launcher takes a job after these hooks.
_FOLLOWS = {"preprocess": State.PREPROCESSED, "postprocess": State.POSTPROCESSED}
#: Fields that what follows does not depend on.
_IDLE = frozenset({"data", "tags", "description"})


def main() -> int:
    """Run the hook that the command line names; what it raises is this program's end."""
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in HOOKS:
        raise InvalidInput(f"give one of {', '.join(HOOKS)}: python -m balsam.hooks NAME")
    job = Job.current()
    if job is None:
        raise NotFound("BALSAM_JOB_ID is not set: hooks run inside jobs")
    run_hook(App.objects.get(name=job.application), job, name)
    return 0


def run_hook(app: App, job: Job, name: str) -> None:
    """Call the method *name* of *app* for *job*, and store what it changed there."""
    sys.path[:0] = app.function.path
    definition = pickle.loads(base64.b64decode(app.function.code))
    before, state = _fields(job), job.state
    getattr(definition(job), name)()
    if name == "postprocess" and not job.stage_out_url:
        _clean_up(definition.cleanup_files)
    after = _fields(job)
    changed = {field for field in EDITABLE if before[field] != after[field]}
    follows = _FOLLOWS.get(name)
    if job.state in (state, follows):
        # The launcher moves it there, with the job as it knows it: only then leave it to others
        # when that is not what it is now.
        job.state = follows if follows and changed - _IDLE else state
    job.save(message=f"by {name} of {app.name}")


def _clean_up(patterns: Iterable[str]) -> None:
    """Remove the files of the job's directory that match one of *patterns*."""
    for pattern in patterns:
        for path in glob(pattern, recursive=True):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.remove(path)


def _fields(job: Job) -> dict[str, Any]:
    return {field: msgspec.to_builtins(getattr(job, field)) for field in EDITABLE}


if __name__ == "__main__":
    sys.exit(main())
