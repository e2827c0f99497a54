"""The passwords of a cluster's own roles, in the form of libpq's password files."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from balsam.errors import ServerError
from balsam.model.roles import ADMINISTRATOR, OWNER

FILE = "pgpass"


def new_passwords() -> dict[str, str]:
    """Return a new password for each of the cluster's own roles."""
    return {role: new_password() for role in (OWNER, ADMINISTRATOR)}


def new_password() -> str:
    return secrets.token_urlsafe(24)


def line(host: str, database: str, role: str, password: str) -> str:
    """Return a line of a password file (PostgreSQL 18 manual, 32.16); '*' stands for any."""
    words = (host, "*", database, role, password)
    return ":".join(re.sub(r"([:\\])", r"\\\1", word) for word in words)


def write(site: Path, passwords: Mapping[str, str]) -> None:
    """Write the site's password file, readable by its owner alone."""
    aside = site / f"{FILE}.new"
    aside.unlink(missing_ok=True)
    aside.touch(mode=0o600)
    aside.write_text("".join(f"{line('*', '*', *pair)}\n" for pair in passwords.items()))
    aside.replace(site / FILE)


def read(site: Path) -> dict[str, str]:
    """Return the password of each role in the site's password file.

    Raises
    ------
    ServerError
        It is not there, or may not be read.
    """
    try:
        lines = (site / FILE).read_text().splitlines()
    except FileNotFoundError as error:
        raise ServerError(
            f"the password file {site / FILE} is missing; put it back, or have a new one made:"
            f" `balsam server --reset --site {site}`"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(f"cannot read the password file {site / FILE}: {error}") from error
    words = (re.split(r"(?<!\\):", text) for text in lines)
    return {parts[3]: parts[4] for parts in words if len(parts) == 5}
