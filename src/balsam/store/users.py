"""The server under a PostgreSQL database: who may use it, who is connected, how full it is.

Names and passwords are bound parameters; where a statement takes none, the server itself makes
it of them (`format` with `%I` and `%L`), so that no name is ever syntax.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.errors import AlreadyExists, InvalidInput, NotFound, SiteError
from balsam.model.roles import DATABASE, OWNER, USERS
from balsam.store.database import Database
from balsam.store.schema import launchers

#: Seconds to wait for a server: whoever asks about it wants to hear that it is away.
BUSY_SECONDS = 5.0
#: What members of `USERS` may do, now and with tables that later migrations make.
_GRANTS = (
    "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {users}",
    "GRANT USAGE ON SCHEMA public TO {users}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {users}",
    "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {users}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public"
    " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {users}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public"
    " GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO {users}",
)
_ROLES = {"owner": OWNER, "users": USERS, "database": DATABASE}

R = TypeVar("R")


class Session(msgspec.Struct, frozen=True):
    """One connection to the database. What we may not see of others is None."""

    pid: int
    user: str | None
    application: str | None
    #: Address of the client; 'local' for a Unix socket.
    client: str | None
    #: 'active', 'idle', 'idle in transaction', …
    state: str | None
    #: Seconds since the epoch: since when it is in this state.
    state_at: float | None
    #: What it waits for, 'Lock: transactionid'; '' when for nothing.
    waits_for: str


class User(msgspec.Struct, frozen=True):
    """A role that can log in."""

    name: str
    #: 'owner', 'administrator', 'user', or 'other' (not made by Balsam).
    kind: str
    connections: int


class Figures(msgspec.Struct, frozen=True):
    """What a server says of itself."""

    version: str
    #: Seconds since the epoch.
    started_at: float
    database: str
    size_bytes: int
    #: Connections now, the most there can be, and how many of these only administrators get.
    connections: int
    max_connections: int
    reserved_connections: int


def administer(url: str, name: str, work: Callable[[Connection], R]) -> R:
    """Return what *work* does on a connection of its own, each statement for itself.

    Raises
    ------
    StoreError
        The server is away, refuses us, or cannot do it.
    SiteError
        The database is a file.
    """
    database = Database(url, name, BUSY_SECONDS)
    try:
        if not database.is_server:
            raise SiteError(f"{name} keeps its jobs in a file: it has no server")
        engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            return work(connection)
    except database.errors as error:
        raise database.translate(error) from error
    finally:
        database.engine.dispose()


def _composed(connection: Connection, template: str, *values: str) -> None:
    """Execute a statement that the server makes of *template* and *values*."""
    marks = "".join(", CAST(%s AS text)" for _ in values)
    text = connection.exec_driver_sql(
        f"SELECT format(CAST(%s AS text){marks})", (template, *values)
    ).scalar_one()
    _driver(connection).execute(text)


def _driver(connection: Connection) -> Any:
    """Return psycopg's connection, for which a '%' without parameters is a '%'."""
    return connection.connection.driver_connection


def _verifier(connection: Connection, role: str, password: str) -> str:
    """Return what the server keeps of *password*: it never sees, nor logs, the password."""
    words = (password.encode(), role.encode(), b"scram-sha-256")
    verifier: bytes = _driver(connection).pgconn.encrypt_password(*words)
    return verifier.decode()


# a site's own server --------------------------------------------------------------------


def prepare_server(maintenance_url: str, name: str, password: str) -> None:
    """Make owner, users' group and database on a new server, as its administrator.

    Raises
    ------
    StoreError
        It cannot be done.
    """

    def work(connection: Connection) -> None:
        _composed(
            connection,
            "CREATE ROLE %I LOGIN PASSWORD %L",
            OWNER,
            _verifier(connection, OWNER, password),
        )
        _composed(connection, "CREATE ROLE %I NOLOGIN", USERS)
        _composed(connection, "CREATE DATABASE %I OWNER %I", DATABASE, OWNER)
        _composed(connection, "REVOKE ALL ON DATABASE %I FROM PUBLIC", DATABASE)

    administer(maintenance_url, name, work)


def grant(connection: Connection) -> None:
    """Let the users' group use all that is in the database, and what will be."""
    connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    connection.exec_driver_sql(f"GRANT ALL ON SCHEMA public TO {OWNER}")
    for statement in _GRANTS:
        connection.exec_driver_sql(statement.format(**_ROLES))


def new_passwords_statements(passwords: dict[str, str]) -> list[str]:
    """Return statements that give roles new passwords, for a server in single-user mode.

    Passwords and roles are Balsam's own making: letters, digits, '-' and '_'.
    """
    for word in (*passwords, *passwords.values()):
        if not word.replace("-", "").replace("_", "").isalnum():
            raise InvalidInput("a password of Balsam's own has letters, digits, '-' and '_' only")
    return [f"ALTER ROLE {role} PASSWORD '{word}'" for role, word in passwords.items()]


# users ------------------------------------------------------------------------------------


def users(connection: Connection) -> list[User]:
    """Return the roles that can log in, by name."""
    rows = connection.exec_driver_sql(
        """
        SELECT rolname, rolsuper,
               EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                       WHERE m.member = r.oid AND g.rolname = %s),
               (SELECT count(*) FROM pg_stat_activity a
                WHERE a.usesysid = r.oid AND a.pid <> pg_backend_pid())
        FROM pg_roles r WHERE rolcanlogin ORDER BY rolname
        """,
        (USERS,),
    )
    return [User(n, _kind(n, superuser, member), c) for n, superuser, member, c in rows]


def _kind(name: str, superuser: bool, member: bool) -> str:
    if name == OWNER:
        return "owner"
    if superuser:
        return "administrator"
    return "user" if member else "other"


def add_user(connection: Connection, name: str, password: str) -> None:
    """Make a role that can use everything in the site's database, but not change its tables.

    Raises
    ------
    AlreadyExists
        There is a role of this name.
    InvalidInput
        PostgreSQL keeps the name for itself, or it is too long.
    """
    if not name or len(name.encode()) > 63 or name.startswith("pg_") or name in ("public", "none"):
        raise InvalidInput(
            f"the user name {name!r} cannot be had; give 1 to 63 bytes, not 'public', 'none' or"
            " 'pg_…'"
        )
    if any(not character.isprintable() for character in name):
        raise InvalidInput(f"the user name {name!r} has characters that cannot be shown")
    if _role_exists(connection, name):
        raise AlreadyExists(f"there is a user {name!r} already; `balsam server --list-users`")
    _composed(
        connection, "CREATE ROLE %I LOGIN PASSWORD %L", name, _verifier(connection, name, password)
    )
    _composed(connection, "GRANT %I TO %I", USERS, name)


def drop_user(connection: Connection, name: str) -> int:
    """Remove a user and end their connections; return how many these were.

    Raises
    ------
    NotFound
        There is no such user.
    InvalidInput
        It is one of the database's own roles, or the user has launchers that run.
    """
    known = {user.name: user for user in users(connection)}
    if name not in known:
        raise NotFound(f"there is no user {name!r}; `balsam server --list-users` shows all")
    if known[name].kind != "user":
        raise InvalidInput(f"{name!r} is the database's {known[name].kind}; it cannot be removed")
    if running := live_launchers(connection, name):
        raise InvalidInput(f"{name!r} has {running} running launchers; end them first")
    _composed(connection, "ALTER ROLE %I NOLOGIN", name)
    ended = connection.exec_driver_sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = %s", (name,)
    ).scalar_one()
    _composed(connection, "DROP OWNED BY %I", name)
    _composed(connection, "DROP ROLE %I", name)
    return int(ended)


def live_launchers(connection: Connection, owner: str | None = None) -> int:
    """Return how many launchers (of *owner*) hold a lease, by the server's clock."""
    now = sa.func.extract("epoch", sa.func.clock_timestamp())
    terms = [launchers.c.ended_at.is_(None), launchers.c.expires_at > now]
    if owner is not None:
        terms.append(launchers.c.owner == owner)
    return int(connection.execute(sa.select(sa.func.count()).where(*terms)).scalar_one())


def _role_exists(connection: Connection, name: str) -> bool:
    found = connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
    return found.first() is not None


# connections --------------------------------------------------------------------------------


def sessions(connection: Connection) -> list[Session]:
    """Return the connections to this database, oldest first, but for this one."""
    rows = connection.exec_driver_sql(
        """
        SELECT pid, usename, nullif(application_name, ''),
               CASE WHEN client_port = -1 THEN 'local' ELSE host(client_addr) END,
               state, extract(epoch FROM state_change)::float8,
               concat_ws(': ', wait_event_type, wait_event)
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND backend_type = 'client backend'
        ORDER BY backend_start, pid
        """
    )
    return [
        Session(pid, user, application, client, state, since, _wait(state, event))
        for pid, user, application, client, state, since, event in rows
    ]


def _wait(state: str | None, event: str) -> str:
    """Return what a connection waits for; one that does nothing waits for its client only."""
    return "" if state != "active" or event.startswith("Client") else event


def figures(connection: Connection) -> Figures:
    """Return what the server says of itself and of this database."""
    row = connection.exec_driver_sql(
        """
        SELECT current_setting('server_version'),
               extract(epoch FROM pg_postmaster_start_time())::float8,
               current_database()::text, pg_database_size(current_database()),
               (SELECT count(*) FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
               current_setting('max_connections')::int,
               current_setting('superuser_reserved_connections')::int
        """
    ).one()
    return Figures(*row)
