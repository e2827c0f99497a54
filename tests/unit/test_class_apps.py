"""From classes to apps: what is registered, and what is refused."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from balsam.api import ApplicationDefinition, Site
from balsam.applications.record import app_fields, hooks_of, template_names
from balsam.client.connect import create_site
from balsam.errors import InvalidInput
from balsam.model.app import App, Parameter, command_line


@pytest.fixture
def site(tmp_path: Any) -> Site:
    create_site(tmp_path / "site")
    return Site(tmp_path / "site")


def made(**attributes: Any) -> type[ApplicationDefinition]:
    return type("Sim", (ApplicationDefinition,), attributes)


def test_a_command_with_its_parameters(site: Site) -> None:
    class Sim(ApplicationDefinition):
        """Simulates.

        At length.
        """

        command_template = "  sim --x {{ x }} -{{y}} "
        parameters = {"y": {"required": False, "default": 3, "help": "how much"}}
        environment_variables = {"A": 1}

    fields = app_fields(Sim, site)
    assert fields["name"] == "Sim"
    assert fields["description"] == "Simulates.\n\nAt length."
    assert fields["executable"] == "sim --x {{ x }} -{{y}}"
    assert fields["parameters"] == {
        "x": Parameter(),
        "y": Parameter(required=False, default="3", help="how much"),
    }
    assert fields["environ"] == {"A": "1"}
    assert fields["envscript"] == ""
    assert fields["function"].code == ""  # nothing of it is in Python


@pytest.mark.parametrize("value", ["a b", "$(id); `id`", "'", '"', "*", ""])
def test_a_template_with_operators_is_bash_s_and_values_stay_values(site: Site, value: str) -> None:
    template = "printf '<%s>' {{ x }} it\\'s | cat && printf '<%s>' {{y}} {{x}} > /dev/stdout"
    fields = app_fields(made(command_template=template), site)
    app = App(name="Sim", executable=fields["executable"])
    words = command_line(app, "", {"x": value, "y": 2})
    assert words[:2] == ["/bin/bash", "-c"]
    said = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.decode()
    assert said == f"<{value}><it's><2><{value}>"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "there is neither"),
        ({"command_template": "x", "run": lambda self: 1}, "not both"),
        ({"command_template": "a {{ x | upper }}"}, "only {{ name }} is understood"),
        ({"command_template": "a {% if x %}b{% endif %}"}, "only {{ name }} is understood"),
        ({"command_template": "a", "parameters": {"x": {"required": True}}}, "does not use"),
        ({"command_template": "{{x}}", "parameters": {"x": {}}}, "needs required"),
        ({"command_template": "{{x}}", "parameters": {"x": {"required": False}}}, "a default"),
        ({"run": lambda: 1}, "needs self"),
        ({"run": lambda self, *more: 1}, r"takes \*more"),
        ({"command_template": "a", "transfers": {"t": {"direction": "up"}}}, "needs direction"),
    ],
)
def test_what_cannot_be_an_app_is_refused(
    site: Site, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        app_fields(made(**attributes), site)


def test_names_of_templates_come_in_order_and_once() -> None:
    assert template_names("Sim", "{{b}} {{ a }} {{b }}") == ["b", "a"]


def test_hooks_are_the_methods_that_a_class_has_of_its_own() -> None:
    class Parent(ApplicationDefinition):
        def run(self, x: int, y: int = 2) -> int:
            return x + y

        def handle_error(self) -> None: ...

    class Child(Parent):
        cleanup_files = ["*.tmp"]

    assert hooks_of(Parent) == ["run", "handle_error"]
    assert sorted(hooks_of(Child)) == ["handle_error", "postprocess", "run"]
    assert hooks_of(made(command_template="x")) == []


def test_run_has_the_parameters_of_its_signature(site: Site) -> None:
    def run(self: Any, x: int, y: str = "z") -> None: ...

    fields = app_fields(made(run=run), site)
    assert fields["executable"] == ""
    assert fields["parameters"] == {
        "x": Parameter(help="int"),
        "y": Parameter(required=False, default="'z'", help="str"),
    }
    assert fields["function"].hooks == ["run"]


def test_a_preamble_is_a_file_of_the_site(site: Site) -> None:
    class Sim(ApplicationDefinition):
        command_template = "sim"

        def shell_preamble(self) -> list[str]:
            return ["false", "echo never"]

    file = app_fields(Sim, site)["envscript"]
    ended = subprocess.run(["/bin/bash", "-c", 'source "$0" || exit 7', file], check=False)
    assert ended.returncode == 7

    class Asks(ApplicationDefinition):
        command_template = "sim"

        def shell_preamble(self) -> str:
            return str(self.job.num_nodes)

    with pytest.raises(InvalidInput, match="there is no job here"):
        app_fields(Asks, site)
