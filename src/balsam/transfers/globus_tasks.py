"""Tasks of Globus: the files of jobs that wait for the same two endpoints go in one.

Protocol: Globus Transfer API 0.10, by its documents (docs.globus.org/api/transfer) and by
globus-sdk 4.9. It was never tried with the real service.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from balsam.errors import TransferBroken, TransferError
from balsam.transfers.progress import Progress, Stopped

if TYPE_CHECKING:
    from globus_sdk import TransferClient

#: Seconds in which others join the first job of a task.
GATHER = 2.0
#: Most items of a task.
MOST_ITEMS = 10_000
#: Seconds between two looks at a task: the first, which grow to the last.
FIRST_LOOK, _LAST_LOOK = 1.0, 30.0
#: Seconds for tasks to be cancelled at the end.
_ENDING = 10.0
#: Longest label that Globus takes.
_LABEL = 128


class GlobusItem(NamedTuple):
    """A file or directory of a task, by its paths at the two endpoints."""

    source: str
    target: str
    is_directory: bool | None  #: None: Globus finds out


@dataclass(eq=False)
class _Member:
    """One job's part of a task."""

    items: list[GlobusItem]
    label: str
    progress: Progress
    is_done: bool = False
    error: TransferError | None = None


@dataclass(eq=False)
class _Task:
    """What is moved together."""

    route: tuple[str, str]
    members: list[_Member] = field(default_factory=list)
    complete: threading.Event = field(default_factory=threading.Event)  #: none may join it
    unwanted: threading.Event = field(default_factory=threading.Event)

    @property
    def is_full(self) -> bool:
        return sum(len(member.items) for member in self.members) >= MOST_ITEMS


class GlobusTasks:
    """Submits tasks, and watches them, one thread each."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._gathering: dict[tuple[str, str], _Task] = {}
        self._threads: set[threading.Thread] = set()

    def move(
        self,
        route: tuple[str, str],
        items: list[GlobusItem],
        url: str,
        label: str,
        progress: Progress,
    ) -> None:
        """Have *items* moved from the first to the second endpoint of *route*, for *url*.

        Raises
        ------
        TransferError
            Globus cannot, or does not let us; `retryable` says whether another try may help.
        Stopped
            The transfer was to end; a task that nobody else waits for is cancelled.
        """
        member = _Member(items, label, progress)
        with self._changed:
            task = self._gathering.get(route)
            if task is None or task.complete.is_set():
                task = self._gathering[route] = _Task(route)
                thread = threading.Thread(target=self._carry_out, args=[task], daemon=True)
                self._threads.add(thread)
                thread.start()
            task.members.append(member)
            if task.is_full:
                task.complete.set()
        try:
            with progress.ended_by(self._wake), self._changed:
                while not member.is_done:
                    progress.check()
                    self._changed.wait()
        except Stopped:
            with self._changed:
                task.members.remove(member)
                if not task.members:
                    task.unwanted.set()
                    task.complete.set()
            raise
        if member.error is not None:
            raise type(member.error)(f"{url}: {member.error}") from member.error

    def close(self) -> None:
        """Wait for tasks to be cancelled, which nobody waits for any more."""
        for thread in list(self._threads):
            thread.join(_ENDING)

    # inside
    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _carry_out(self, task: _Task) -> None:
        task.complete.wait(GATHER)
        with self._changed:
            if self._gathering.get(task.route) is task:
                del self._gathering[task.route]
            members = list(task.members)
        errors: Mapping[_Member, TransferError] = {}
        try:
            if members and not task.unwanted.is_set():
                errors = _run(task, members)
        except TransferError as error:
            errors = dict.fromkeys(members, error)
        except BaseException as error:
            errors = dict.fromkeys(members, TransferError(f"a fault of Balsam: {error!r}"))
            raise
        finally:
            with self._changed:
                for member in members:
                    member.is_done, member.error = True, errors.get(member)
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()


def _run(task: _Task, members: list[_Member]) -> dict[_Member, TransferError]:
    """Submit a task and wait for its end; return what failed, by member."""
    with _wrapped():
        client = _client()
        task_id = _submit(client, task.route, members)
    found: dict[str, Any] = {"status": "ACTIVE"}
    pause = FIRST_LOOK
    while found["status"] in ("ACTIVE", "INACTIVE"):
        if task.unwanted.wait(pause):
            with _wrapped():
                client.cancel_task(task_id)
            return {}
        pause = min(_LAST_LOOK, 1.5 * pause)
        try:
            with _wrapped():
                found = dict(client.get_task(task_id).data)
        except TransferBroken as error:  # the task goes on
            _tell(members, f"Globus task {task_id}: {error}")
        else:
            _tell(members, _trouble(task_id, found))
            if len(members) == 1:
                members[0].progress.files = int(found.get("files_transferred") or 0)
                members[0].progress.bytes_done = int(found.get("bytes_transferred") or 0)
    if found["status"] != "SUCCEEDED":
        fault = found.get("fatal_error") or {}
        why = fault.get("description") or fault.get("code") or found.get("nice_status")
        raise TransferError(f"Globus task {task_id} {found['status'].lower()}: {why}")
    with _wrapped():
        skipped = list(client.task_skipped_errors(task_id))
    return _failed(task_id, members, skipped)


def _submit(client: TransferClient, route: tuple[str, str], members: list[_Member]) -> str:
    from globus_sdk import MISSING, TransferData

    label = members[0].label + (f" and {len(members) - 1} more" if members[1:] else "")
    data = TransferData(
        *route,
        label=label[:_LABEL],
        # A submission that is repeated after a lost answer is no second task.
        submission_id=client.get_submission_id()["value"],
        verify_checksum=True,
        preserve_timestamp=True,
        skip_source_errors=True,
        fail_on_quota_errors=True,
        notify_on_succeeded=False,
        notify_on_failed=False,
        notify_on_inactive=False,
    )
    for member in members:
        for source, target, is_directory in member.items:
            recursive = MISSING if is_directory is None else is_directory
            data.add_item(source, target, recursive=recursive)
    return str(client.submit_transfer(data)["task_id"])


def _trouble(task_id: str, found: Mapping[str, Any]) -> str:
    """Return what keeps a task, if anything does."""
    status, faults = found.get("nice_status") or "OK", int(found.get("faults") or 0)
    if found["status"] == "ACTIVE" and status in ("OK", "Queued") and not faults:
        return ""
    detail = found.get("nice_status_short_description") or ""
    return f"Globus task {task_id}: {status} {detail}".rstrip() + f", {faults} faults"


def _tell(members: list[_Member], trouble: str) -> None:
    for member in members:
        member.progress.trouble = trouble


def _failed(
    task_id: str, members: list[_Member], skipped: list[Mapping[str, Any]]
) -> dict[_Member, TransferError]:
    """Return the members some of whose files Globus has left out."""
    errors: dict[_Member, TransferError] = {}
    for each in skipped:
        source, target = str(each.get("source_path")), str(each.get("destination_path"))
        why = f"{source}: {each.get('error_code')} (Globus task {task_id})"
        concerned = [
            member
            for member in members
            if any(_is_in(source, i.source) or _is_in(target, i.target) for i in member.items)
        ]
        for member in concerned or members:
            errors.setdefault(member, TransferError(why))
    return errors


def _is_in(path: str, root: str) -> bool:
    return path.rstrip("/") == root.rstrip("/") or path.startswith(f"{root.rstrip('/')}/")


def _client() -> TransferClient:
    """Return a client that is who the environment says."""
    import globus_sdk as sdk

    environ = os.environ
    client_id, secret = environ.get("GLOBUS_CLIENT_ID"), environ.get("GLOBUS_CLIENT_SECRET")
    refresh, access = environ.get("GLOBUS_REFRESH_TOKEN"), environ.get("GLOBUS_ACCESS_TOKEN")
    authorizer: sdk.authorizers.GlobusAuthorizer
    if client_id and secret:
        app = sdk.ConfidentialAppAuthClient(client_id, secret)
        scope = sdk.scopes.TransferScopes.all
        authorizer = sdk.ClientCredentialsAuthorizer(app, scope)
    elif client_id and refresh:
        authorizer = sdk.RefreshTokenAuthorizer(refresh, sdk.NativeAppAuthClient(client_id))
    elif access:
        authorizer = sdk.AccessTokenAuthorizer(access)
    else:
        raise TransferError(
            "globus: URLs need a token: set GLOBUS_CLIENT_ID with GLOBUS_CLIENT_SECRET or"
            " GLOBUS_REFRESH_TOKEN, or GLOBUS_ACCESS_TOKEN (see the guide, Files)"
        )
    return sdk.TransferClient(authorizer=authorizer, app_name="balsam")


@contextmanager
def _wrapped() -> Iterator[None]:
    """Make errors of the library ours."""
    try:
        import globus_sdk as sdk
    except ImportError as error:
        raise TransferError(
            "globus: URLs need the package globus-sdk, which is not installed:"
            " pip install 'balsam-flow[globus]'"
        ) from error
    try:
        yield
    except sdk.GlobusAPIError as error:
        passes = error.http_status >= 500 or error.http_status in (408, 429)
        kind = TransferBroken if passes else TransferError
        said = error.message or error.http_reason
        raise kind(f"Globus answers {error.http_status} {error.code}: {said}") from error
    except sdk.NetworkError as error:
        raise TransferBroken(f"Globus cannot be reached: {error}") from error
    except sdk.GlobusError as error:
        raise TransferError(f"Globus: {error}") from error
