"""Run one hook of a job's app that is in Python: ``python -m balsam.hooks NAME``.

It is a function, which is called with the job, or a method of a class. Launchers start this as a
process of the job, in its directory, with the Python that the app was registered with. What the
hook changes in the job is stored, its state too.
"""

from __future__ import annotations

import base64
import importlib
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterable
from glob import glob
from typing import Any

import msgspec

from balsam.api import App, Job, State
from balsam.errors import InvalidInput, NotFound
from balsam.model.app import HOOKS
from balsam.model.hook import MARK, hook_function
from balsam.model.job import EDITABLE

#: Where the launcher takes a job after these hooks.
_FOLLOWS = {"preprocess": State.PREPROCESSED, "postprocess": State.POSTPROCESSED}
#: In these states it is called as a handler, which says itself where the job goes.
_HANDLED = (State.RUN_ERROR, State.RUN_TIMEOUT)
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
    """Call the hook *name* of *app* for *job*, and store what it changed there.

    Raises
    ------
    NotFound
        The app has not the code of its function.
    """
    sys.path[:0] = app.function.path
    before, state = _fields(job), job.state
    command: str = getattr(app, HOOKS[name])
    if command:
        _function(app, command)(job)
    else:
        definition = pickle.loads(base64.b64decode(app.function.code))
        getattr(definition(job), name)()
        if name == "postprocess" and not job.stage_out_url:
            _clean_up(definition.cleanup_files)
    after = _fields(job)
    changed = {field for field in EDITABLE if before[field] != after[field]}
    follows = _FOLLOWS.get(name) if state not in _HANDLED else None
    if job.state in (state, follows):
        # The launcher moves it there, with the job as it knows it: only then leave it to others
        # when that is not what it is now.
        job.state = follows if follows and changed - _IDLE else state
    job.save(message=f"by {name} of {app.name}")


def _function(app: App, command: str) -> Callable[[Job], object]:
    """Return the function that the text *command* names."""
    named = hook_function(command)
    if named is None:
        raise NotFound(f"the hook of app {app.name!r} is now a command, {command}: run again")
    found: Any
    if not named.goes_along:
        found = importlib.import_module(named.module)
        for part in named.name.split("."):
            found = getattr(found, part)
    else:
        code = app.function.functions.get(command.removeprefix(MARK))
        if code is None:
            raise NotFound(f"app {app.name!r} has no code of {command}; give it the function again")
        found = pickle.loads(base64.b64decode(code))
    hook: Callable[[Job], object] = found
    return hook


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
