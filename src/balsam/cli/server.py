"""`balsam server`: the site's database server, its connections and its users."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from balsam import config
from balsam.cli.context import confirm, remember, tell
from balsam.cli.output import print_json, table, timestamp
from balsam.errors import (
    BalsamError,
    InvalidInput,
    ServerElsewhere,
    ServerError,
    SiteError,
    StoreError,
    StoreUnreadable,
)
from balsam.model import roles

if TYPE_CHECKING:
    from balsam.store.database import Connection
    from balsam.store.users import Figures, Session, User

R = TypeVar("R")


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "server",
        help="start, stop and look at the site's database server; its users",
        description="Start, stop and look at the PostgreSQL server of the site; let others use it.",
        epilog="example:\n  balsam server --status && balsam server --list-active-connections",
    )
    verb = parser.add_mutually_exclusive_group(required=True)
    verb.add_argument("--connect", action="store_true", help="start the server if it is not up")
    verb.add_argument("--status", action="store_true", help="say whether it runs; exit code 0 or 1")
    verb.add_argument("--stop", action="store_true", help="stop it, ending its connections")
    verb.add_argument(
        "--reset",
        action="store_true",
        help="stop and start it; makes a new password file if the old one is lost",
    )
    verb.add_argument(
        "--list-active-connections", action="store_true", help="show who is connected"
    )
    verb.add_argument("--list-users", action="store_true", help="show who may connect")
    verb.add_argument("--add-user", metavar="USER", help="let USER use the site's database")
    verb.add_argument("--drop-user", metavar="USER", help="let them use it no more")
    parser.add_argument("--json", action="store_true", help="print JSON (status and lists)")
    parser.add_argument("--yes", action="store_true", help="stop it although launchers run")
    parser.add_argument(
        "--force",
        action="store_true",
        help="with --connect: start it although it may run on another host; be sure it does not",
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    site = config.find_site(args.site).resolve()
    settings = config.load(site)
    if args.force and not args.connect:
        raise InvalidInput("--force is for --connect only; leave it out")
    remember(site)
    if settings.database.url == "sqlite":
        return _without_server(args, site)
    server = OwnServer(site) if settings.database.url == "postgres" else GivenServer(site, settings)
    if args.status:
        return _status(args, server)
    if args.list_active_connections:
        return _list_connections(args, server)
    if args.list_users:
        return _list_users(args, server)
    if args.connect:
        server.connect(args.force)
    elif args.stop or args.reset:
        server.stop(args)
    elif args.add_user is not None:
        server.add_user(args.add_user)
    else:
        server.drop_user(args.drop_user)
    return 0


def _without_server(args: Namespace, site: Path) -> int:
    text = f"the site {site} keeps its jobs in SQLite, in the file balsam.db: it has no server"
    if not args.connect:
        raise SiteError(f"{text}; `balsam init PATH --database postgres` makes a site with one")
    print(f"{text[:1].upper()}{text[1:]} to start")
    return 0


class Status(msgspec.Struct, kw_only=True):
    """What `--status` tells; None is what is not known."""

    running: bool | None
    problem: str | None = None
    managed: bool = True
    host: str | None = None
    port: int | None = None
    node: str | None = None
    pid: int | None = None
    started_at: float | None = None
    version: str | None = None
    data_directory: str | None = None
    size_bytes: int | None = None
    connections: int | None = None
    max_connections: int | None = None
    reserved_connections: int | None = None


class GivenServer:
    """A server that is there: looked at, never started or stopped."""

    def __init__(self, site: Path, settings: config.Settings) -> None:
        from balsam.client.local import database_url

        self.site = site
        self.name = f"the database of {site}"
        self._url = database_url(site, settings)

    def ask(self, work: Callable[[Connection], R]) -> R:
        from balsam.store import users

        return users.administer(self._url, self.name, work)

    def status(self) -> Status:
        from balsam.store import users

        try:
            figures = self.ask(users.figures)
        except StoreError as error:
            return Status(running=False, managed=False, problem=str(error))
        return _with_figures(Status(running=True, managed=False), figures)

    def connect(self, _force: bool) -> None:
        from balsam.store import users

        version = self.ask(users.figures).version
        print(f"{self.name} is on a server that others run: it answers (PostgreSQL {version})")

    def _not_ours(self, what: str) -> ServerError:
        return ServerError(
            f"{self.name} is on a server that is not the site's own: ask those who run it to {what}"
        )

    def stop(self, _args: Namespace) -> None:
        raise self._not_ours("stop or restart it")

    def add_user(self, _name: str) -> None:
        raise self._not_ours(
            "make a role that may SELECT, INSERT, UPDATE and DELETE in all tables of its schema"
        )

    def drop_user(self, _name: str) -> None:
        raise self._not_ours("drop the role")


class OwnServer:
    """The server that the site manages."""

    def __init__(self, site: Path) -> None:
        self.site = site
        self.name = f"the server of {site}"

    def ask(self, work: Callable[[Connection], R]) -> R:
        """Return what *work* finds, as the administrator if the site is ours.

        Raises
        ------
        ServerError
            It does not run.
        """
        from balsam.cluster import address, server, url
        from balsam.store import users

        if not address.answers(*address.endpoint(self.site)):
            raise ServerError(f"{self.name} does not run; start it with `balsam server --connect`")
        server.ensure(self.site, tell)
        return users.administer(url(self.site, role=roles.ADMINISTRATOR), self.name, work)

    # state
    def status(self) -> Status:
        from balsam.cluster import address, files, server, server_info
        from balsam.store import users

        info = server_info.read(self.site)
        status = Status(running=False, data_directory=str(self.site / "balsamdb"))
        try:
            host, port = address.endpoint(self.site)
            if not address.answers(host, port):
                if not info.is_here():
                    raise address.elsewhere(self.site, info)
                return status
        except ServerElsewhere as error:
            status.running, status.node, status.problem = None, info.node, str(error)
            return status
        found = server.find(self.site) if info.is_here() else None
        status.running, status.host, status.port, status.node = True, host, port, info.node or None
        status.pid = found.pid if found else info.pid or None
        try:
            status.version = str(files.version(self.site)) if found else None
            return _with_figures(status, self.ask(users.figures))
        except BalsamError as error:
            status.problem = str(error)
            return status

    def connect(self, force: bool) -> None:
        from balsam.cluster import address, server

        if not address.is_owner(self.site):
            server.ensure(self.site, tell)
            started = False
        else:
            started = server.start(self.site, force=force, say=tell)
        host, port = address.endpoint(self.site)
        what = f"Started {self.name}" if started else f"The server of {self.site} runs"
        print(f"{what}: {host}, port {port}")

    def stop(self, args: Namespace) -> None:
        """Stop it, and start it again for ``--reset``."""
        from balsam.cluster import server
        from balsam.store import users

        ended, lost, question = 0, False, ""
        try:
            ended = len(self.ask(users.sessions))
            question = self._question(self.ask(users.live_launchers))
        except (ServerError, StoreError) as error:
            lost = _is_password(error)
            if server.find(self.site) and not args.reset:
                question = f"Whether launchers run is not known ({error}). Go on?"
        if question and not confirm(args, question):
            print("Nothing was changed")
            return
        stopped = server.stop(self.site, say=tell)
        if args.reset:
            self._start_again(lost)
        if not stopped and not args.reset:
            print(f"The server of {self.site} did not run")
            return
        what = "Stopped" if not args.reset else "Restarted" if stopped else "Started"
        print(f"{what} {self.name}; {_counted(ended, 'connection')} ended")

    def _question(self, launchers: int) -> str:
        if not launchers:
            return ""
        return (
            f"{_counted(launchers, 'launcher')} of {self.site} run, and wait for the server while"
            " it is away. Go on?"
        )

    def _start_again(self, lost: bool) -> None:
        from balsam.cluster import server
        from balsam.store import users

        if lost:
            server.renew_passwords(self.site, users.new_passwords_statements)
            print(f"Made a new password file: {self.site / 'pgpass'}")
        server.start(self.site, say=tell)

    # users
    def add_user(self, name: str) -> None:
        from balsam.cluster import passwords, server, server_info
        from balsam.store import users

        server.require_owner(self.site)
        password = passwords.new_password()
        self.ask(lambda connection: users.add_user(connection, name, password))
        info = server_info.read(self.site)
        linked = info.host.startswith("/") and info.host != str(self.site / "run")
        host = "*" if linked or not info.host else info.host
        tell(
            f"added the user {name!r}; this line is for their ~/.pgpass (mode 600); its password is"
            " shown only now"
        )
        print(passwords.line(host, roles.DATABASE, name, password))

    def drop_user(self, name: str) -> None:
        from balsam.cluster import server
        from balsam.store import users

        server.require_owner(self.site)
        ended = self.ask(lambda connection: users.drop_user(connection, name))
        print(f"Removed the user {name!r}; {_counted(ended, 'connection')} ended")


def _is_password(error: BalsamError) -> bool:
    """Tell whether a password is missing or wrong."""
    return "password" in str(error) and isinstance(error, ServerError | StoreUnreadable)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _with_figures(status: Status, figures: Figures) -> Status:
    changes = msgspec.structs.asdict(figures)
    del changes["database"]
    return msgspec.structs.replace(status, **changes)


# output ---------------------------------------------------------------------------------


def _record(struct: Status | Session | User) -> dict[str, Any]:
    record = msgspec.structs.asdict(struct)
    return {k: timestamp(v) if k.endswith("_at") else v for k, v in record.items()}


def _status(args: Namespace, server: OwnServer | GivenServer) -> int:
    status = server.status()
    if args.json:
        print_json(_record(status))
    else:
        print(_status_text(status))
    return 0 if status.running else 1


def _status_text(status: Status) -> str:
    word = {True: "running", False: "not running", None: "not known"}[status.running]
    size = f" ({status.size_bytes / 2**20:.1f} MiB)" if status.size_bytes is not None else ""
    lines = {
        "server": word,
        "since": timestamp(status.started_at),
        "host": status.node,
        "pid": status.pid,
        "address": f"{status.host}, port {status.port}" if status.host else None,
        "version": f"PostgreSQL {status.version}" if status.version else None,
        "data": f"{status.data_directory or 'on its server'}{size}",
        "connections": _connections(status),
        "problem": status.problem,
    }
    return "\n".join(f"{name:<12}{text}" for name, text in lines.items() if text is not None)


def _connections(status: Status) -> str | None:
    if status.connections is None:
        return None
    return (
        f"{status.connections} of {status.max_connections}"
        f" ({status.reserved_connections} kept for administration)"
    )


def _list_connections(args: Namespace, server: OwnServer | GivenServer) -> int:
    from balsam.store import users

    sessions = server.ask(users.sessions)
    if args.json:
        print_json(map(_record, sessions))
        return 0
    headers = ("pid", "user", "application", "client", "state", "since", "waits for")
    rows = [[value or "" for value in _record(session).values()] for session in sessions]
    print(table(headers, rows))
    return 0


def _list_users(args: Namespace, server: OwnServer | GivenServer) -> int:
    from balsam.store import users

    found = server.ask(users.users)
    if args.json:
        print_json(map(_record, found))
    else:
        print(
            table(("user", "kind", "connections"), [(u.name, u.kind, u.connections) for u in found])
        )
    return 0
