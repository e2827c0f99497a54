"""Sites and settings from the command line: init, which, config, activation, completion."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import balsam as package
from balsam.cli.main import VERBS, build_parser


def snapshot(directory: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() if path.is_file() else b""
        for path in sorted(directory.rglob("*"))
        if not path.name.endswith(("-wal", "-shm"))
    }


# the command itself ----------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-V", "--version", "--vers"])
def test_version(bare_balsam, option):
    assert bare_balsam(option).stdout == f"balsam {package.__version__}\n"


def test_no_verb_prints_help(bare_balsam):
    done = bare_balsam()
    assert done.returncode == 0
    assert "Usage: balsam" in done.stdout
    assert all(verb in done.stdout for verb in ("init", "which", "ls", "show", "wait", "progress"))


HELPED = (
    ("init",),
    ("which",),
    ("config", "show"),
    ("config", "path"),
    ("ls",),
    ("show",),
    ("logs",),
    ("log",),
    ("progress",),
    ("wait",),
    ("completion",),
)


@pytest.mark.parametrize("verb", HELPED, ids=" ".join)
def test_every_verb_has_help_with_an_example(bare_balsam, verb):
    done = bare_balsam(*verb, "--help")
    assert done.returncode == 0
    assert "example" in done.stdout
    assert re.search(r"balsam \w+", done.stdout.partition("example")[2])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("lss",), ("invalid choice", "lss", "Did you mean 'ls'?")),
        (("ls", "--histori"), ("--histori", "Did you mean '--history'?")),
        (("ls", "--site"), ("--site", "expected one argument")),
        (("which", "--list", "--name", "x"), ("--name", "not allowed with", "--list")),
        (("show",), ("required", "JOB")),
        (("ls", "joobs"), ("invalid choice", "joobs", "Did you mean 'jobs'?")),
        (("config",), ("required",)),
        (("logs", "1", "--tail", "0"), ("--tail", "'0'")),
        (("wait", "--timeout", "soon"), ("--timeout", "'soon'")),
        (("wait", "--timeout", "nan"), ("--timeout", "'nan'")),
        (("ls", "--limit", "-1"), ("--limit",)),
        (("ls", "--history", "--by-states"), ("not allowed with",)),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(bare_balsam, argv, words):
    done = bare_balsam(*argv)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words)


def test_starting_imports_nothing_heavy(environ):
    """The start of every command is time that users wait."""
    script = (
        "import sys; from balsam.cli.main import build_parser; build_parser(); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True
    )
    imported = {module.partition(".")[0] for module in done.stdout.split()}
    assert "balsam" in imported
    heavy = {"sqlalchemy", "alembic", "rich", "rich_argparse", "jinja2", "shtab", "zmq", "asyncio"}
    assert not heavy & imported


def test_each_verb_is_where_the_table_says():
    """A verb alone must give the same parser as all verbs together."""
    (everything,) = build_parser()._subparsers._group_actions
    assert list(everything.choices) == list(VERBS)
    for verb in VERBS:
        (alone,) = build_parser([verb])._subparsers._group_actions
        assert alone.choices[verb].format_help() == everything.choices[verb].format_help()


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete"), ("zsh", "#compdef"), ("tcsh", "complete")]
)
def test_completion(bare_balsam, shell, mark):
    done = bare_balsam("completion", shell)
    assert done.returncode == 0
    assert mark in done.stdout
    assert "progress" in done.stdout


# init ------------------------------------------------------------------------------------


def test_init_makes_a_private_site_and_says_how_to_activate_it(bare_balsam, tmp_path):
    done = bare_balsam("init", "alloys")
    assert done.returncode == 0
    assert "Use `source balsamactivate alloys`" in done.stdout
    site = tmp_path / "alloys"
    assert (site / "balsam.db").is_file()
    assert (site / "balsam.toml").is_file()
    assert stat.S_IMODE(site.stat().st_mode) == 0o700
    assert bare_balsam("which", "--list").stdout == f"{site}\n"


def test_init_twice_is_refused_and_changes_nothing(bare_balsam, site):
    before = snapshot(site)
    done = bare_balsam("init", site)
    assert done.returncode == 1
    assert done.stderr == f"balsam: error: there is a Balsam site at {site} already\n"
    assert snapshot(site) == before


def test_two_inits_at_once_make_one_site(environ, tmp_path):
    both = [
        subprocess.Popen(
            ["balsam", "init", "same"],
            env=environ,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60) for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], outputs
    listed = subprocess.run(
        ["balsam", "ls", "--site", "same"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stderr


def test_init_on_a_file_is_refused(bare_balsam, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = bare_balsam("init", "file")
    assert done.returncode == 1
    assert "not a directory" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_init_refuses_site_option(bare_balsam, tmp_path):
    done = bare_balsam("init", "new", "--site", "other")
    assert done.returncode == 2
    assert not (tmp_path / "new").exists()


def test_init_takes_answers_that_it_does_not_ask_for(bare_balsam):
    """Scripts of 0.x say `yes | balsam init PATH`."""
    assert bare_balsam("init", "new", stdin="y\n" * 100).returncode == 0


def test_a_home_that_cannot_be_written_is_no_obstacle(bare_balsam, tmp_path):
    env = {"BALSAM_HOME": "/proc"}  # nobody can write there, not even root
    assert bare_balsam("init", "new", env=env).returncode == 0
    assert bare_balsam("ls", "--site", tmp_path / "new", env=env).returncode == 0
    assert bare_balsam("which", "--name", "./new", env=env).stdout == f"{tmp_path}/new\n"


def test_init_refuses_an_empty_path(bare_balsam, tmp_path):
    """What `balsam init $UNSET` in quotes comes to is no wish for a site right here."""
    done = bare_balsam("init", "")
    assert done.returncode == 2
    assert "PATH is empty" in done.stderr
    assert not (tmp_path / "balsam.toml").exists()


def test_init_quotes_a_name_with_blanks(bare_balsam):
    assert "`source balsamactivate 'my site'`" in bare_balsam("init", "my site").stdout


def test_a_site_behind_a_symbolic_link_is_one_site(bare_balsam, tmp_path):
    """Home directories of many systems are links; activating by name must go on working."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    site = tmp_path / "real" / "alloys"
    assert bare_balsam("init", "link/alloys").returncode == 0
    for path in (site, "link/alloys", "real/../link/alloys"):
        assert bare_balsam("ls", "--site", path).returncode == 0
    assert bare_balsam("ls", cwd=tmp_path / "link" / "alloys").returncode == 0
    assert bare_balsam("which", "--list").stdout == f"{site}\n"
    assert bare_balsam("which", "--name", "alloys").stdout == f"{site}\n"


# which -----------------------------------------------------------------------------------


def test_which_prints_site_and_database(balsam, site):
    lines = balsam("which").stdout.splitlines()
    assert lines[0] == f"Current Balsam DB: {site}"
    assert str(site / "balsam.db") in lines[1]
    record = json.loads(balsam("which", "--json").stdout)
    assert record["path"] == str(site)


def test_which_without_site_says_what_to_do(bare_balsam):
    done = bare_balsam("which")
    assert done.returncode == 1
    assert "balsam init" in done.stderr
    assert done.stderr.count("\n") == 1


def test_which_name_prints_only_the_path(bare_balsam, tmp_path):
    for name in ("alloys-1", "alloys-2"):
        bare_balsam("init", name)
    assert bare_balsam("which", "--name", "loys-2").stdout == f"{tmp_path}/alloys-2\n"
    assert bare_balsam("which", "--name", tmp_path / "alloys-1").stdout == f"{tmp_path}/alloys-1\n"
    several = bare_balsam("which", "--name", "alloys")
    none = bare_balsam("which", "--name", "steel")
    for done, word in ((several, "several"), (none, "'steel'")):
        assert done.returncode == 1
        assert done.stdout == ""
        assert word in done.stderr
        assert done.stderr.count("\n") == 1


def test_sites_are_found_in_order(bare_balsam, tmp_path):
    """--site wins over BALSAM_SITE over BALSAM_DB_PATH over the directory; also after the verb."""
    paths = {}
    for name in ("one", "two", "three", "four"):
        bare_balsam("init", name)
        paths[name] = tmp_path / name
    inside = {"cwd": paths["four"] / "data"}

    def used(*options, env=None):
        done = bare_balsam(*options, env=env, **inside)
        return Path(json.loads(done.stdout)["path"]).name

    both = {"BALSAM_SITE": str(paths["two"]), "BALSAM_DB_PATH": str(paths["three"])}
    assert used("which", "--json") == "four"
    assert used("which", "--json", env={"BALSAM_DB_PATH": str(paths["three"])}) == "three"
    assert used("which", "--json", env=both) == "two"
    assert used("--site", "one", "which", "--json", env=both) == "one"
    assert used("which", "--json", "--site", paths["one"], env=both) == "one"
    unknown = bare_balsam("ls", "--site", "five")
    assert unknown.returncode == 1
    assert "'five'" in unknown.stderr


# config ----------------------------------------------------------------------------------


def test_config_show_tells_each_value_and_its_source(balsam, site, tmp_path):
    (tmp_path / "home").mkdir(exist_ok=True)
    user_file = tmp_path / "home" / "settings.toml"
    user_file.write_text("[ls]\nlimit = 7\n[launcher]\ngrace_seconds = 3.0\n")
    (site / "balsam.toml").write_text("[ls]\nlimit = 9\n")
    records = json.loads(balsam("config", "show", "--json").stdout)
    found = {r["key"]: (r["value"], r["source"]) for r in records}
    assert found["ls.limit"] == (9, str(site / "balsam.toml"))
    assert found["launcher.grace_seconds"] == (3.0, str(user_file))
    assert found["launcher.output"] == ("directory", "default")
    text = balsam("config", "show").stdout
    assert re.search(rf"ls.limit +\| 9 +\| {site}/balsam.toml", text)
    assert balsam("config", "path").stdout.split() == [str(user_file), str(site / "balsam.toml")]


def test_config_show_without_a_site_shows_the_users(bare_balsam):
    done = bare_balsam("config", "show")
    assert done.returncode == 0
    assert "ls.limit" in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ls]\nlimmit = 3\n", ("ls.limmit", "Did you mean 'ls.limit'?")),
        ("[lss]\nlimit = 3\n", ("lss.limit", "Did you mean 'ls.limit'?")),
        ('[ls]\nlimit = "many"\n', ("limit", "int")),
        ("[ls\n", ("cannot read the settings",)),
    ],
)
def test_bad_settings_are_refused_and_kept(balsam, site, text, words):
    (site / "balsam.toml").write_text(text)
    for verb in (("config", "show"), ("ls",)):
        done = balsam(*verb)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert all(word in done.stderr for word in (*words, str(site / "balsam.toml")))
    assert (site / "balsam.toml").read_text() == text


def test_sites_are_remembered_beside_each_other(environ, bare_balsam, tmp_path):
    """Many commands at once must not lose each other's sites, nor leave files behind."""
    for n in range(4):
        assert bare_balsam("init", f"s{n}").returncode == 0
    listed = json.loads(bare_balsam("which", "--list", "--json").stdout)
    assert listed == [str(tmp_path / f"s{n}") for n in range(4)]
    assert sorted(os.listdir(environ["BALSAM_HOME"])) == ["sites.json"]


# output without a place ------------------------------------------------------------------


def test_a_full_disk_behind_the_output_is_one_line(environ, site):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            ["balsam", "ls", "--site", site],
            env=environ,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "balsam: error: cannot write: No space left on device\n"


def test_closed_output_is_no_error(environ, site):
    done = subprocess.run(
        ["sh", "-c", 'balsam ls --site "$0" >&-', site], env=environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_names_are_shown_where_the_locale_lacks_their_characters(bare_balsam, site):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    at = ("--site", site)
    assert bare_balsam("app", *at, "--name", "say", "--exec", "echo").returncode == 0
    job = ("job", *at, "--workflow", "w", "--app", "say", "--yes")
    assert bare_balsam(*job, "--name", "caf\u00e9").returncode == 0
    assert "caf\\xe9" in bare_balsam("ls", *at, env=ascii_only).stdout
    (shown,) = json.loads(bare_balsam("ls", *at, "--json", env=ascii_only).stdout)
    assert shown["name"] == "caf\u00e9"
    assert bare_balsam("ls", "--help", env=ascii_only).returncode == 0
