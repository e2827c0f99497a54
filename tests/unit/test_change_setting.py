"""One setting is written into a site's file; all else in it stays as the user left it."""

from __future__ import annotations

import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from balsam import settings_file
from balsam.errors import InvalidInput, SiteError

URL = 'postgresql://me:it\'s@host/a?b="c"#d'
#: Files as users leave them, and what they are after `url = "new"`.
FILES = {
    "nothing": ("", '[database]\nurl = "new"\n'),
    "another table": ("[ls]\nlimit = 3\n", '[ls]\nlimit = 3\n\n[database]\nurl = "new"\n'),
    "the template": (
        '# head\n[database]\n# url = "sqlite"\n# busy_seconds = 60.0\n\n[ls]\n',
        '# head\n[database]\n# url = "sqlite"\nurl = "new"\n# busy_seconds = 60.0\n\n[ls]\n',
    ),
    "a value": ('[database]\nurl = "old"\n', '[database]\nurl = "new"\n'),
    "a comment behind": (
        '[database]\nurl = "old#1"  # ours\nbusy_seconds = 3\n',
        '[database]\nurl = "new"  # ours\nbusy_seconds = 3\n',
    ),
    "single quotes": ("[database]\n  url='old' # x\n", '[database]\nurl = "new" # x\n'),
    "a quoted name": ('[database]\n"url" = "old"\n', '[database]\nurl = "new"\n'),
    "blanks in the head": ('[ database ]\nurl = "old"\n', '[ database ]\nurl = "new"\n'),
    "the last table": (
        "[ls]\nlimit = 1\n[database] # here\nbusy_seconds = 1",
        '[ls]\nlimit = 1\n[database] # here\nurl = "new"\nbusy_seconds = 1\n',
    ),
    "ünï": ('# ünï 漢\n[database]\nurl = "ü"\n', '# ünï 漢\n[database]\nurl = "new"\n'),
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_only_the_one_line_changes(site: Path, name: str) -> None:
    before, after = FILES[name]
    (site / "balsam.toml").write_text(before)
    settings_file.change_setting(site, "database.url", "new")
    assert (site / "balsam.toml").read_text() == after
    settings_file.change_setting(site, "database.url", "new")
    assert (site / "balsam.toml").read_text() == after


@pytest.mark.parametrize("value", ["postgres", URL, "postgresql://ünï@/x", 'a"b\\c', "x" * 3000])
def test_every_value_is_read_back(site: Path, value: str) -> None:
    (site / "balsam.toml").write_text(settings_file.template())
    settings_file.change_setting(site, "database.url", value)
    assert tomllib.loads((site / "balsam.toml").read_text())["database"] == {"url": value}


#: Other ways to write the same in TOML; and text that only looks like a table.
STRANGE = {
    "dotted": 'database.url = "old"\n',
    "inline": 'database = {url = "old"}\n',
    "in a text": '[ls]\nfields = ["""\n[database]\nurl = "x"\n"""]\n',
    "many lines": '[database]\nurl = """\nold"""\n',
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_we_cannot_change_stays_and_is_explained(site: Path, name: str) -> None:
    (site / "balsam.toml").write_text(STRANGE[name])
    with pytest.raises(SiteError, match=r'write url = "new" into its table \[database\]'):
        settings_file.change_setting(site, "database.url", "new")
    assert (site / "balsam.toml").read_text() == STRANGE[name]
    assert [file.name for file in site.iterdir()] == ["balsam.toml"]


def test_a_file_that_is_no_toml(site: Path) -> None:
    (site / "balsam.toml").write_text("[database\n")
    with pytest.raises(InvalidInput, match=r"balsam\.toml"):
        settings_file.change_setting(site, "database.url", "new")


def test_permissions(site: Path) -> None:
    """A URL can have a password in it."""
    file = site / "balsam.toml"
    file.write_text("")
    file.chmod(0o664)
    settings_file.change_setting(site, "database.url", "postgres")
    assert stat.S_IMODE(file.stat().st_mode) == 0o664
    settings_file.change_setting(site, "database.url", URL)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_link_stays_a_link(site: Path, tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text("# mine\n")
    (site / "balsam.toml").symlink_to(tmp_path / "real.toml")
    settings_file.change_setting(site, "database.url", "postgres")
    assert (site / "balsam.toml").is_symlink()
    assert (tmp_path / "real.toml").read_text() == '# mine\n\n[database]\nurl = "postgres"\n'


def test_where_nobody_may_write(site: Path) -> None:
    (site / "balsam.toml").write_text("")
    made = subprocess.run(["chattr", "+i", site], capture_output=True)
    if made.returncode:
        pytest.skip("no directory can be made immutable here")
    try:
        with pytest.raises(SiteError, match="cannot change"):
            settings_file.change_setting(site, "database.url", "new")
    finally:
        subprocess.run(["chattr", "-i", site], check=True)
    assert (site / "balsam.toml").read_text() == ""
