"""Apps on the command line: hooks, environments, containers; shown, changed, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Balsam, Result


def ok(done: Result) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def app(balsam: Balsam, name: str) -> dict[str, Any]:
    (found,) = json.loads(ok(balsam("ls", "apps", "--name", name, "--json")))
    return dict(found)


EVERYTHING = (
    *("--executable", "/bin/echo {{x}} {{ y }}", "--param-default", "y=a=b"),
    *("--error-handler", "/bin/false", "--timeout-handler", "/bin/true"),
    *("--env", "A=1", "--env", "B=x y", "--module", "gcc/13", "--module", "mpi"),
    *("--conda", "env/mine", "--container", "image.sif", "--container-runtime", "podman"),
    *("--bind", "/a:/b", "--container-gpus", "amd", "--container-option=--tls-verify"),
)


def test_an_app_with_everything(balsam: Balsam, site: Path) -> None:
    (site.parent / "image.sif").touch()
    done = ok(balsam("app", "--name", "all", *EVERYTHING, cwd=site.parent))
    for line in ("error_handler:", "environ:", "parameters:", "modules:", "container:"):
        assert line in done
    record = app(balsam, "all")
    wanted = {
        "error_handler": "/bin/false",
        "timeout_handler": "/bin/true",
        "environ": {"A": "1", "B": "x y"},
        "parameters": {"x": {}, "y": {"required": False, "default": "a=b"}},
        "modules": ["gcc/13", "mpi"],
        "conda": str(site.parent / "env/mine"),
        "container": {
            "image": str(site.parent / "image.sif"),
            "runtime": "podman",
            "binds": ["/a:/b"],
            "gpus": "amd",
            "options": ["--tls-verify"],
        },
    }
    assert {name: record[name] for name in wanted} == wanted
    verbose = ok(balsam("ls", "apps", "--verbose"))
    assert '{"A":"1","B":"x y"}' in verbose
    job = ("job", "--name", "j", "--workflow", "w", "--app", "all", "--yes")
    shown = ok(balsam(*job, "--param", "x=1 2"))
    assert "Executed command:" in shown
    assert "/bin/echo '1 2' a=b" in shown
    assert "parameter 'x' of app 'all' has no value" in balsam(*job).stderr


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("environ", "A=1 B='2 3'", {"A": "1", "B": "2 3"}),
        ("modules", "gcc mpi", ["gcc", "mpi"]),
        ("modules", '["a b"]', ["a b"]),
        ("container", "docker.io/x", {"image": "docker.io/x"}),
        ("container", '{"image": "i", "binds": ["/a"]}', {"image": "i", "binds": ["/a"]}),
        ("parameters", '{"x": {"help": "of x"}}', {"x": {"help": "of x"}}),
        ("error_handler", "/bin/true", "/bin/true"),
        ("conda", "mine", "mine"),
    ],
)
def test_a_field_is_changed(balsam: Balsam, field: str, value: str, stored: object) -> None:
    ok(balsam("app", "--name", "sim", "--executable", "/bin/true"))
    assert "Changed 1 app." in ok(balsam("modify", "sim", field, value, "--type", "apps"))
    assert app(balsam, "sim")[field] == stored


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--bind", "/a"), "without one; add --container IMAGE"),
        (("--param-default", "yy=1"), "Did you mean 'y'?"),
        (("--param-default", "y"), "--param-default"),
        (("--env", "A=1", "--env", "A=2"), "--env A is given twice"),
        (("--container", "i", "--container-runtime", "foo"), "invalid choice: 'foo'"),
        (("--container", "i", "--bind", "/a,b"), "is not SOURCE"),
        (("--error-handler", "'open"), "--error-handler: cannot split"),
    ],
)
def test_what_cannot_be_is_refused(balsam: Balsam, words: tuple[str, ...], message: str) -> None:
    done = balsam("app", "--name", "sim", "--executable", "/bin/echo {{y}}", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "No apps" in ok(balsam("ls", "apps"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("container", '{"image": "i", "runtime": "appptainer"}', "Did you mean 'apptainer'?"),
        ("container", '{"imagge": "i"}', "container"),
        ("modules", "[1]", "modules: "),
        ("function", "{}", "registered from Python"),
        ("environ", "A", "environ"),
    ],
)
def test_a_change_that_cannot_be_is_refused(
    balsam: Balsam, field: str, value: str, message: str
) -> None:
    ok(balsam("app", "--name", "sim", "--executable", "/bin/true"))
    before = app(balsam, "sim")
    done = balsam("modify", "sim", field, value, "--type", "apps")
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert app(balsam, "sim") == before
