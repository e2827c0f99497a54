"""Settings and where sites are found."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from balsam import config, settings_file
from balsam.errors import AlreadyExists, InvalidInput, SiteError, UnknownField


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "campaigns" / "site"
    settings_file.create_site_directory(path)
    return path


def write(home: Path, text: str) -> None:
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text(text)


def source(site: Path | None, key: str) -> tuple[object, str]:
    (origin,) = [origin for origin in config.explain(site) if origin.key == key]
    return origin.value, origin.source


def test_site_over_user_over_default(site: Path, balsam_home: Path) -> None:
    assert source(site, "ls.limit") == (5000, "default")
    write(balsam_home, "[ls]\nlimit = 10\n[launcher]\ngrace_seconds = 3\n")
    assert source(site, "ls.limit") == (10, str(balsam_home / "settings.toml"))
    (site / "balsam.toml").write_text("[ls]\nlimit = 20\n")
    assert source(site, "ls.limit") == (20, str(site / "balsam.toml"))
    settings = config.load(site)
    assert (settings.ls.limit, settings.launcher.grace_seconds) == (20, 3.0)
    assert settings.launcher.lease_seconds == 60.0


def test_settings_without_a_site(balsam_home: Path) -> None:
    write(balsam_home, "[ls]\nlimit = 10\n")
    assert config.load(None).ls.limit == 10


def test_the_template_changes_nothing_and_names_every_setting(site: Path) -> None:
    text = (site / "balsam.toml").read_text()
    assert {origin.source for origin in config.explain(site)} == {"default"}
    for key in config.known_keys():
        table, name = key.split(".")
        assert f"# {name} = " in text.split(f"[{table}]")[1].split("\n[")[0]


def test_the_template_gives_the_defaults_when_its_comments_are_taken_away(site: Path) -> None:
    head, *lines = (site / "balsam.toml").read_text().splitlines()
    assert head.startswith("#")
    (site / "balsam.toml").write_text("\n".join(line.removeprefix("# ") for line in lines))
    assert config.load(site) == config.Settings()
    assert {origin.source for origin in config.explain(site)} == {str(site / "balsam.toml")}


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("[launcher]\nlease_secs = 1", "launcher.lease_seconds"),
        ("[laucher]\nlease_seconds = 1", "launcher.lease_seconds"),
        ("[ls]\nlimits = 1", "ls.limit"),
    ],
)
def test_an_unknown_setting_gives_the_nearest(site: Path, text: str, nearest: str) -> None:
    (site / "balsam.toml").write_text(text)
    with pytest.raises(UnknownField, match=f"Did you mean '{nearest}'") as caught:
        config.load(site)
    assert str(site / "balsam.toml") in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_setting_outside_a_table_is_told(site: Path) -> None:
    (site / "balsam.toml").write_text("limit = 1")
    with pytest.raises(UnknownField, match="'limit' stands outside a table"):
        config.load(site)


@pytest.mark.parametrize(
    "text",
    [
        "[ls]\nlimit = 'many'",
        "[ls]\nlimit = 1.5",
        "[ls]\nfields = 'name'",
        "[launcher]\noutput = 'nowhere'",
        "[launcher]\nlease_seconds = true",
        "[ls\nlimit = 1",
        "[ls]\nlimit = ",
    ],
)
def test_a_file_that_cannot_be_taken_is_named_on_one_line(site: Path, text: str) -> None:
    (site / "balsam.toml").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        config.load(site)
    assert str(site / "balsam.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_lack_settings_stay_as_they_are(site: Path, balsam_home: Path) -> None:
    """Fault B2: an upgrade, which knows more settings, overwrites nobody's."""
    text = "# mine\n[ls]\nlimit = 10\n"
    write(balsam_home, text)
    (site / "balsam.toml").write_text(text)
    assert config.load(site).ls.limit == config.load(None).ls.limit == 10
    assert len(config.explain(site)) == len(config.known_keys()) > 5
    for file in (balsam_home / "settings.toml", site / "balsam.toml"):
        assert file.read_text() == text
    assert [file.name for file in balsam_home.iterdir()] == ["settings.toml"]


def test_a_file_that_is_no_text_is_told(site: Path) -> None:
    (site / "balsam.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"balsam\.toml"):
        config.load(site)


def test_a_new_site_is_its_owners_alone(site: Path) -> None:
    for path in (site, *(site / name for name in settings_file.SUBDIRECTORIES)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_second_site_on_a_path_is_refused(site: Path) -> None:
    (site / "balsam.toml").write_text("# mine")
    with pytest.raises(AlreadyExists, match="already"):
        settings_file.create_site_directory(site)
    assert (site / "balsam.toml").read_text() == "# mine"


def test_a_site_cannot_be_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SiteError, match=str(path)):
            settings_file.create_site_directory(path)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_user_without_a_name_is_a_number() -> None:
    """Containers run as users that no file names."""
    if os.getuid() != 0:
        pytest.skip("only root can become a user that has no name")
    program = "import os; from balsam.config import user_name; os.setuid(54321); print(user_name())"
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True)
    assert done.stdout.decode() == "54321\n", done.stderr


class Found:
    """Four sites, one for each way to find one."""

    def __init__(self, root: Path) -> None:
        self.explicit, self.variable, self.activated, self.above = (
            root / name for name in ("explicit", "variable", "activated", "above")
        )
        for path in (self.explicit, self.variable, self.activated, self.above):
            settings_file.create_site_directory(path)
        self.below = self.above / "data" / "w" / "job"
        self.below.mkdir(parents=True)


@pytest.fixture
def found(tmp_path: Path) -> Found:
    return Found(tmp_path)


def test_the_order_in_which_a_site_is_found(found: Found) -> None:
    environ = {"BALSAM_SITE": str(found.variable), "BALSAM_DB_PATH": str(found.activated)}
    assert config.find_site(str(found.explicit), environ, found.below) == found.explicit
    assert config.find_site(None, environ, found.below) == found.variable
    del environ["BALSAM_SITE"]
    assert config.find_site(None, environ, found.below) == found.activated
    assert config.find_site(None, {}, found.below) == found.above
    assert config.find_site(None, {}, found.above) == found.above


def test_empty_variables_say_nothing(found: Found) -> None:
    empty = {"BALSAM_SITE": "", "BALSAM_DB_PATH": ""}
    assert config.find_site(None, empty, found.below) == found.above


def test_the_nearest_site_above_is_taken(found: Found) -> None:
    inner = found.above / "data" / "inner"
    settings_file.create_site_directory(inner)
    assert config.find_site(None, {}, inner / "data") == inner


def test_without_a_site_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="balsam init PATH") as caught:
        config.find_site(None, {}, tmp_path)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("variable", ["BALSAM_SITE", "BALSAM_DB_PATH"])
def test_a_variable_that_names_no_site_is_an_error(found: Found, variable: str) -> None:
    with pytest.raises(SiteError, match=f"{variable} '/nowhere'"):
        config.find_site(None, {variable: "/nowhere"}, found.below)


def test_a_relative_path_and_a_tilde(
    found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config.find_site("explicit", {}) == found.explicit
    assert config.find_site("~/explicit", {}) == found.explicit


def test_a_known_site_is_found_by_a_unique_part(
    found: Found, tmp_path: Path, balsam_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    environ = {"BALSAM_HOME": str(balsam_home)}
    assert config.known_sites(environ) == []
    for path in (found.explicit, found.variable, found.above, found.explicit):
        config.remember_site(path, environ)
    assert config.known_sites(environ) == [found.explicit, found.variable, found.above]
    assert config.find_site("expl", environ) == found.explicit
    with pytest.raises(SiteError, match="several") as caught:
        config.find_site(tmp_path.name, environ)
    assert str(found.explicit) in str(caught.value)
    with pytest.raises(SiteError, match="balsam init"):
        config.find_site("nothing-like-it", environ)


def test_a_name_goes_before_a_part(found: Found, tmp_path: Path, balsam_home: Path) -> None:
    environ = {"BALSAM_HOME": str(balsam_home)}
    inner = found.above / "inner"
    settings_file.create_site_directory(inner)
    for path in (inner, found.above):
        config.remember_site(path, environ)
    assert config.find_site("above", environ, tmp_path) == found.above


def test_sites_that_are_gone_are_forgotten(found: Found, balsam_home: Path) -> None:
    environ = {"BALSAM_HOME": str(balsam_home)}
    config.remember_site(found.explicit, environ)
    (found.explicit / "balsam.toml").unlink()
    assert config.known_sites(environ) == []


def test_a_broken_list_of_sites_is_no_obstacle(found: Found, balsam_home: Path) -> None:
    environ = {"BALSAM_HOME": str(balsam_home)}
    balsam_home.mkdir()
    (balsam_home / "sites.json").write_text("{broken")
    config.remember_site(found.explicit, environ)
    assert config.known_sites(environ) == [found.explicit]
    assert os.listdir(balsam_home) == ["sites.json"]


@pytest.mark.parametrize(
    "line",
    ["lease_seconds = -1", "idle_seconds = -0.5", "grace_seconds = -3", "hooks = -1"],
)
def test_a_setting_out_of_bounds_is_refused(site: Path, line: str) -> None:
    (site / "balsam.toml").write_text(f"[launcher]\n{line}\n")
    with pytest.raises(InvalidInput, match=line.split()[0]):
        config.load(site)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[queues.a]\nmax_queued = 1\n[queues.b-c]\nmax_queued = "3"\n',
            "the setting queues.b-c.max_queued cannot be '3': expected int",
        ),
        ("[scheduler]\nname = 5\n", "the setting scheduler.name cannot be 5: expected str"),
        (
            "[service]\nbudget_node_hours = -3\n",
            "the setting service.budget_node_hours cannot be -3: expected float >= 0.0",
        ),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_setting(site: Path, text: str, said: str) -> None:
    file = site / "balsam.toml"
    file.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        config.load(site)
    assert str(caught.value).startswith(f"{file}: {said}")
    assert "$" not in str(caught.value)


# queues ---------------------------------------------------------------------------------


def test_queues_have_a_table_each(balsam_home: Path, site: Path) -> None:
    write(balsam_home, "[queues.debug]\nmax_queued = 1\nmax_nodes = 8\n")
    (site / "balsam.toml").write_text(
        '[queues.debug]\nmax_queued = 2\n[queues."a.b"]\nuse = false\n'
    )
    found = config.load(site).queues
    assert found == {
        "debug": config.QueuePolicy(max_queued=2, max_nodes=8),
        "a.b": config.QueuePolicy(use=False),
    }
    origins = {origin.key: origin.source for origin in config.explain(site)}
    assert origins["queues.debug.max_queued"] == str(site / "balsam.toml")
    assert origins["queues.debug.max_nodes"] == str(balsam_home / "settings.toml")


def test_an_empty_table_is_a_queue_to_use(site: Path) -> None:
    (site / "balsam.toml").write_text("[queues.debug]\n")
    assert config.load(site).queues == {"debug": config.QueuePolicy()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[queues.debug]\nmax_quued = 1", r"no setting 'queues\.debug\.max_quued'.*max_queued"),
        ("[queues.debug]\nmax_queued = 0", "queues"),
        ("[queues.debug]\nmin_nodes = 4\nmax_nodes = 2", "min_nodes is 4, more than max_nodes, 2"),
        ("queues = 3", r"write \[queues\.NAME\]"),
        ("[queues]\ndebug = 3", "stands outside a table"),
    ],
)
def test_a_wrong_policy_is_told(site: Path, text: str, expected: str) -> None:
    (site / "balsam.toml").write_text(text)
    with pytest.raises((InvalidInput, UnknownField), match=expected):
        config.load(site)
