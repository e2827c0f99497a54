"""`balsam init`, `which`, `config`: sites and their settings."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import Any

import msgspec

from balsam import config
from balsam.cli.context import remember, site_or_none, tell
from balsam.cli.output import print_json, table
from balsam.errors import InvalidInput, SiteError


def add_commands(subparsers: Any) -> None:
    """Add `init`, `which` and `config`."""
    init = subparsers.add_parser(
        "init",
        help="make a site: a directory for one campaign",
        description="Make a site: the directory with a campaign's database, settings and files.",
        epilog="example:\n  balsam init ~/campaigns/alloys && source balsamactivate alloys",
    )
    init.add_argument("path", metavar="PATH", help="directory; made when it is not there")
    init.add_argument(
        "--database",
        metavar="DATABASE",
        help="'sqlite': a file (the default); 'postgres': a server of the site's own;"
        " 'postgresql://USER@HOST/NAME': an empty database on a server that is there",
    )
    init.add_argument(
        "--listen",
        metavar="HOST",
        nargs="?",
        const="*",
        default="",
        help="have the site's own server listen for other hosts, at all addresses or at HOST",
    )
    # Scripts for Balsam before 0.3 have it; which database there was to be it did not change.
    init.add_argument("--db-type", metavar="TYPE", help=argparse.SUPPRESS)
    init.set_defaults(run=run_init)

    which = subparsers.add_parser(
        "which",
        help="print the site in use, or the known ones",
        description="Print the path and the database of the site in use.",
        epilog="example:\n  balsam which --name alloys",
    )
    choice = which.add_mutually_exclusive_group()
    choice.add_argument("--list", action="store_true", help="print all known sites")
    choice.add_argument(
        "--name",
        metavar="TEXT",
        help="print the path of the one site at, or with, TEXT in its path",
    )
    which.add_argument("--json", action="store_true", help="print JSON")
    which.set_defaults(run=run_which)

    settings = subparsers.add_parser(
        "config",
        help="show settings and where they come from",
        description="Show the settings in force and the files that give them.",
        epilog="example:\n  balsam config show",
    )
    verbs = settings.add_subparsers(title="verbs", metavar="VERB", required=True)
    show = verbs.add_parser(
        "show",
        help="print each setting, its value and its source",
        epilog="example:\n  balsam config show --json",
    )
    show.add_argument("--json", action="store_true", help="print JSON: key, value, source")
    show.set_defaults(run=run_config_show)
    path = verbs.add_parser(
        "path",
        help="print the settings files, the stronger one last",
        epilog="example:\n  ${EDITOR:-vi} $(balsam config path | tail -1)",
    )
    path.set_defaults(run=run_config_path)


def run_init(args: argparse.Namespace) -> int:
    """Make a site."""
    from balsam.client.connect import create_site

    if args.site is not None:
        raise InvalidInput("init takes the new site's PATH; leave out --site")
    if not args.path:
        raise InvalidInput("PATH is empty; name the new site's directory ('.' for this one)")
    path = Path(args.path).resolve()
    create_site(path, args.database, listen=args.listen, say=tell)
    _write_template(path)
    remember(path)
    print(f"Made the Balsam site {path}")
    print(f"Use `source balsamactivate {shlex.quote(_shortest_name(path))}` to begin working.")
    return 0


def _write_template(site: Path) -> None:
    """Give the site its own template of job scripts, unless it has one."""
    from balsam.service import template

    file = site / template.TEMPLATE_FILE
    try:
        with open(file, "x", encoding="utf-8") as written:
            written.write(template.default_text())
    except FileExistsError:
        pass
    except OSError as error:
        raise SiteError(f"cannot write {file}: {error.strerror}") from error


def _shortest_name(path: Path) -> str:
    """Return what activates *path*: its last part, when that names no other known site."""
    same = [site for site in config.known_sites() if site.name == path.name]
    return path.name if same == [path] else str(path)


def run_which(args: argparse.Namespace) -> int:
    """Print the site in use, the one that is named, or all known ones."""
    if args.site is not None and (args.list or args.name is not None):
        raise InvalidInput("--site and --list or --name exclude each other; leave one out")
    if args.list:
        sites = [str(site) for site in config.known_sites()]
        if args.json:
            print_json(sites)
        elif sites:
            print("\n".join(sites))
        return 0
    path = config.find_site(args.site if args.name is None else args.name)
    if args.name is not None:
        remember(path)
        if args.json:
            print_json(str(path))
        else:
            print(path)
        return 0
    database = _database(path)
    if args.json:
        print_json({"path": str(path), "database": database})
    else:
        print(f"Current Balsam DB: {path}")
        print(f"Database: {database}")
    return 0


def _database(path: Path) -> str:
    url = config.load(path).database.url
    if url == "sqlite":
        return f"sqlite:///{path / 'balsam.db'}"
    if url == "postgres":
        return f"PostgreSQL, the site's own server in {path / 'balsamdb'}"
    return _without_password(url)


def _without_password(url: str) -> str:
    return re.sub(
        r"([?&]password=)[^&]*", r"\1***", re.sub(r"(://[^:@/]*):[^@/]*@", r"\1:***@", url)
    )


def run_config_show(args: argparse.Namespace) -> int:
    """Print each setting, its value and where it came from."""
    origins = [
        msgspec.structs.replace(origin, value=_without_password(origin.value))
        if origin.key == "database.url"
        else origin
        for origin in config.explain(site_or_none(args))
    ]
    if args.json:
        print_json({"key": o.key, "value": o.value, "source": o.source} for o in origins)
    else:
        rows = [(o.key, json.dumps(o.value), o.source) for o in origins]
        print(table(("setting", "value", "source"), rows))
    return 0


def run_config_path(args: argparse.Namespace) -> int:
    """Print the settings files, the stronger one last."""
    site = site_or_none(args)
    print(config.user_settings_file())
    if site is not None:
        print(site / config.SETTINGS_FILE)
    return 0
