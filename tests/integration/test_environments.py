"""What apps have done before their commands: environment modules, conda, variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balsam.errors import InvalidInput
from balsam.model.app import App, Parameter
from balsam.model.states import State
from tests.integration.conftest import Campaign, Run

S = State


@pytest.fixture
def database() -> str:
    """The database has no part in this: one is enough."""
    return "sqlite"


@pytest.fixture
def modules(tmp_path: Path) -> str:
    """A MODULEPATH with the modules `tool/1` and `tool/2`, of real environment modules."""
    if not os.path.exists("/usr/share/modules/init/bash"):
        reason = "needs environment modules (Debian: apt-get install environment-modules)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path / "modulefiles" / "tool"
    folder.mkdir(parents=True)
    for version in ("1", "2"):
        (folder / version).write_text(f"#%Module\nsetenv TOOL {version}\n")
    return str(folder.parent)


def add(campaign: Campaign, executable: str, **fields: object) -> None:
    campaign.client.add_app(App(name="app", executable=executable, **fields))  # type: ignore[arg-type]


def test_modules_are_loaded_for_the_run_and_its_hooks(
    campaign: Campaign, run: Run, modules: str
) -> None:
    """The envscript comes first, and words keep their form behind both."""
    script = campaign.site / "env.sh"
    script.write_text(f'export MODULEPATH={modules} SCRIPT="in ${{0##*/}} $#"\n')
    hook = campaign.program("pre", "echo tool $TOOL")
    executable = """/bin/sh -c 'echo $TOOL, $SCRIPT, "$1" $#' name '$(id)  x' {{x}}"""
    add(campaign, executable, modules=["tool/1"], envscript=str(script), preprocess=hook)
    job = campaign.job("app", parameters={"x": "'\"$TOOL"})
    run()
    assert campaign.state(job) == S.JOB_FINISHED, campaign.tell(job)
    assert campaign.output(job).endswith("1, in balsam 0, $(id)  x 2\n"), campaign.output(job)
    assert "tool 1" in Path(campaign.get(job).workdir, "preprocess.log").read_text()


def test_a_module_that_is_not_there_is_named_with_the_node(
    campaign: Campaign, run: Run, modules: str
) -> None:
    add(campaign, "/bin/echo never", modules=["tool/1", "tool/3"])
    job = campaign.job("app")
    run(env={"MODULEPATH": modules})
    host = campaign.attempts(job)[0].node
    said = campaign.message(job, S.RUN_ERROR)
    assert "balsam: cannot load the module 'tool/3'" in said
    assert said.endswith(f"lists what is there (on {host})")
    assert campaign.state(job) == S.FAILED
    assert "never" not in campaign.output(job)


def environment(prefix: Path, text: str) -> None:
    """Make what conda makes, as far as activation goes."""
    for name in ("bin", "conda-meta", "etc/conda/activate.d"):
        (prefix / name).mkdir(parents=True)
    (prefix / "conda-meta" / "history").touch()
    (prefix / "bin" / "tool").write_text(f"#!/bin/sh\necho {text} $ACTIVATED $CONDA_PREFIX\n")
    (prefix / "bin" / "tool").chmod(0o755)
    script = prefix / "etc/conda/activate.d/tool.sh"
    script.write_text('export ACTIVATED="for $CONDA_DEFAULT_ENV"\n')


def test_conda_environments_by_name_and_by_path(
    campaign: Campaign, run: Run, tmp_path: Path
) -> None:
    root = tmp_path / "conda root"
    environment(root / "envs" / "mine", "named")
    environment(tmp_path / "an other", "placed")
    for name, conda in (("named", "mine"), ("placed", str(tmp_path / "an other"))):
        campaign.client.add_app(App(name=name, executable="tool", conda=conda))
    campaign.client.add_app(App(name="missing", executable="tool", conda="nobody's"))
    jobs = {name: campaign.job(name) for name in ("named", "placed", "missing")}
    run(env={"MAMBA_ROOT_PREFIX": str(root), "HOME": str(tmp_path)})
    assert campaign.output(jobs["named"]) == f"named for mine {root}/envs/mine\n"
    place = tmp_path / "an other"
    assert campaign.output(jobs["placed"]) == f"placed for {place} {place}\n"
    said = campaign.message(jobs["missing"], S.RUN_ERROR)
    assert "there is no conda environment 'nobody's'; give its path" in said
    assert campaign.state(jobs["missing"]) == S.FAILED


def test_variables_and_parameters_of_the_app_are_defaults(campaign: Campaign, run: Run) -> None:
    parameters = {"x": Parameter(required=False, default="its x"), "y": Parameter()}
    add(
        campaign,
        """/bin/sh -c 'echo $A $B "$@"' name {{x}} {{y}}""",
        environ={"A": "app's", "B": "app's", "BALSAM_JOB_ID": "no"},
        parameters=parameters,
    )
    job = campaign.job("app", environ={"B": "job's"}, parameters={"y": 1})
    other = campaign.job("app", parameters={"x": "given", "y": 2})
    with pytest.raises(InvalidInput, match="parameter 'y' of app 'app' has no value"):
        campaign.job("app")
    run()
    assert campaign.output(job) == "app's job's its x 1\n"
    assert campaign.output(other) == "app's app's given 2\n"
