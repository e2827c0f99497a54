"""Which batch system this machine has."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from balsam.errors import InvalidInput, NoScheduler, SchedulerAway, nearest
from balsam.schedulers.scheduler import Run, Scheduler

#: The adapters, ``module:class``, in the order in which they are looked for. The first that says
#: that it is here is taken; `local` always is.
SCHEDULERS = {
    "slurm": "balsam.schedulers.slurm:Slurm",
    "flux": "balsam.schedulers.flux:Flux",
    "lsf": "balsam.schedulers.lsf:Lsf",
    "pbs": "balsam.schedulers.pbs:Pbs",
    "cobalt": "balsam.schedulers.cobalt:Cobalt",
    "sge": "balsam.schedulers.sge:GridEngine",
    "local": "balsam.schedulers.local:Local",
}
GROUP = "balsam.schedulers"


def known() -> dict[str, str]:
    """Return all adapters by name: those of other packages first, then ours."""
    others = {point.name: point.value for point in entry_points(group=GROUP)}
    return others | {name: where for name, where in SCHEDULERS.items() if name not in others}


def named(name: str) -> Scheduler:
    """Return the adapter of this name.

    Raises
    ------
    InvalidInput
        There is none, or it cannot be loaded.
    """
    adapters = known()
    if name not in adapters:
        raise InvalidInput(
            f"scheduler.name: there is no batch system {name!r}; give one of"
            f" {', '.join(adapters)}, or 'auto'.{nearest(name, list(adapters))}"
        )
    module, _, attribute = adapters[name].partition(":")
    try:
        scheduler: Scheduler = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise InvalidInput(f"the adapter {adapters[name]} cannot be loaded: {error}") from error
    return scheduler


def find(name: str, run: Run) -> Scheduler:
    """Return the adapter of this name; with 'auto' that of the batch system that is here.

    Raises
    ------
    InvalidInput
        There is no such adapter.
    SchedulerAway
        One may be here, and does not answer: to take another would be to guess.
    """
    if name != "auto":
        return named(name)
    for each in map(named, known()):
        try:
            if each.is_here(run):
                return each
        except SchedulerAway as error:
            raise SchedulerAway(
                f"{error}; whether this is a machine of {each.name} is not known. Try again, or"
                " name its batch system in the setting scheduler.name"
            ) from error
    raise NoScheduler("no adapter is for this machine, not even 'local'")
