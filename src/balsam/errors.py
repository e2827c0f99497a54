"""Every error that Balsam raises on purpose.

::

    BalsamError
    ├── InvalidInput          what was given cannot be taken (also a ValueError)
    │   ├── UnknownField      no such field, lookup or setting
    │   └── InvalidResources  a request that no machine could meet
    ├── NotFound              nothing matches
    ├── MultipleFound         more than the one that was asked for matches
    ├── AlreadyExists         the name is taken
    ├── CyclicDependency      the graph would have a cycle
    ├── IllegalMove           the state table forbids the move
    ├── SiteError             no site, or one that cannot be used
    ├── CannotStart           a job that cannot be started, with the reason
    ├── LeaseLost             the launcher's right to its jobs has ended
    ├── NeedsAnswer           a question with nobody there to answer it
    ├── JobFailed             a job ended without the result that was asked for
    │   └── DependencyFailed  because a job that it depends on did
    ├── RemoteError           an exception or a result of a function that cannot be rebuilt here
    ├── UntrustedResult       a pickle of somebody else's job, which is not loaded
    ├── SchedulerError        the batch system
    │   ├── SchedulerAway     it does not answer: trying again helps
    │   │   └── NoScheduler   there is no such program here
    │   ├── SchedulerRefused  it does not take the request, with its own words
    │   └── UnreadableAnswer  it says what we cannot read, with the line
    ├── TransferError         files that cannot be moved
    │   └── TransferBroken    the connection or the other side failed: trying again helps
    ├── BudgetSpent           it would cost more node-hours than the budget has left
    ├── ServiceRuns           the site has a service already
    ├── ServerError           the database server that a site manages cannot do what was asked
    │   └── ServerElsewhere   it was started on another host, and cannot be reached from here
    └── StoreError            the database
        ├── StoreBusy         locked by somebody else: trying again helps
        │   └── StoreConflict two writers were in each other's way: trying again helps
        ├── StoreAway         its server cannot be reached: trying again helps once it is back
        ├── StoreUncertain    the connection ended before we heard whether a change was made
        ├── StoreFull         no space left: trying again helps after making room
        ├── StoreUnreadable   not a database, damaged, or not permitted
        ├── StoreMoved        the site goes on in another database
        └── StoreVersion      made by another version of Balsam

A message says what is wrong, which one, what was expected and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class BalsamError(Exception):
    """Something Balsam cannot do, told to the user in one line."""

    #: What the command line exits with.
    exit_code: ClassVar[int] = 1
    #: Whether the same call can succeed later with nothing changed by the caller.
    retryable: ClassVar[bool] = False


class InvalidInput(BalsamError, ValueError):
    """What was given cannot be taken."""

    exit_code = 2


class UnknownField(InvalidInput):
    """There is no field, lookup or setting of this name."""


class InvalidResources(InvalidInput):
    """The resources asked for are impossible."""


class NotFound(BalsamError, LookupError):
    """Nothing matches."""


class MultipleFound(BalsamError, LookupError):
    """More than one matches where exactly one was asked for."""


class AlreadyExists(BalsamError, RuntimeError):
    """The name or the edge is already there."""


class CyclicDependency(BalsamError, RuntimeError):
    """The dependencies would form a cycle."""


class IllegalMove(BalsamError):
    """The state table has no such move."""


class SiteError(BalsamError):
    """There is no site here, or it cannot be used."""


class CannotStart(BalsamError):
    """A job cannot be started."""


class LeaseLost(BalsamError):
    """The launcher's lease has ended; it must stop what it runs."""


class NeedsAnswer(BalsamError):
    """A question was asked and nobody is there to answer it."""

    exit_code = 2


class JobFailed(BalsamError):
    """A job ended without the result that was asked for; the message has the end of its output."""


class DependencyFailed(JobFailed):
    """A job did not run, because a job that it depends on did not end well."""


class RemoteError(BalsamError):
    """An exception, or a result, of a function that cannot be rebuilt in this program."""


class UntrustedResult(BalsamError):
    """The result is a pickle of somebody else's job: to load it would run what they put there."""


class SchedulerError(BalsamError):
    """The batch system cannot do what was asked."""


class SchedulerAway(SchedulerError):
    """The batch system's command cannot be run, took too long, or found nobody to ask."""

    retryable = True


class NoScheduler(SchedulerAway):
    """There is no such command of a batch system here."""


class SchedulerRefused(SchedulerError):
    """The batch system does not take the request."""


class UnreadableAnswer(SchedulerError):
    """The batch system's command wrote what we cannot read; the message has the line."""


class TransferError(BalsamError):
    """Files cannot be moved."""


class TransferBroken(TransferError):
    """The connection was lost, or the other side cannot answer now."""

    retryable = True


class BudgetSpent(BalsamError):
    """It would cost more node-hours than the budget has left."""


class ServiceRuns(BalsamError):
    """The site has a service already, or ours was replaced by another."""


class ServerError(BalsamError):
    """The database server that a site manages cannot do what was asked."""


class ServerElsewhere(ServerError):
    """The site's database server was started on another host, and cannot be reached from here."""


class StoreError(BalsamError):
    """The database cannot do what was asked."""


class StoreBusy(StoreError):
    """The database is locked by another process."""

    retryable = True


class StoreConflict(StoreBusy):
    """The change was undone for the sake of another writer's."""


class StoreAway(StoreError):
    """The database server cannot be reached."""

    retryable = True


class StoreUncertain(StoreError):
    """The connection ended before the server said whether the change was made."""


class StoreFull(StoreError):
    """The disk, or the user's quota, is full."""

    retryable = True


class StoreUnreadable(StoreError):
    """The file is not a database, is damaged, or may not be read."""


class StoreMoved(StoreError):
    """The database was closed when its site was copied to another."""


class StoreVersion(StoreError):
    """The database was made by another version of Balsam."""


def nearest(word: str, known: list[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest of *known*, or ''."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
