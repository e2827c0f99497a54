"""Which parameters apps take, and what is refused."""

from __future__ import annotations

import pytest

from balsam.errors import InvalidInput
from balsam.model.app import App, Function, Parameter
from balsam.model.parameters import check_parameters, shared_parameters, taken_by

FREE = Parameter(required=False, default="1")
SIM = App(name="sim", executable="sim --beta {{beta}} {{ size }}")
DECLARED = App(name="sim", executable="sim {{beta}} {{size}}", parameters={"size": FREE})
PREPARED = App(name="sim", executable="sim {{beta}} {{size}}", postprocess="x", preprocess="prep")
RUN = App(
    name="sim",
    parameters={"beta": Parameter(), "size": FREE},
    function=Function(code="x", hooks=["run"]),
)


@pytest.mark.parametrize("app", [SIM, DECLARED, PREPARED, RUN])
def test_what_fits_is_taken(app: App) -> None:
    taken = taken_by(app)
    assert taken is not None
    check_parameters(taken, "", {"beta": 1, "size": 2})
    check_parameters(taken, "--seed {{ seed }}", {"beta": 1, "size": 2, "seed": 3})


@pytest.mark.parametrize("app", [SIM, DECLARED, PREPARED, RUN])
def test_a_name_that_it_has_not(app: App) -> None:
    taken = taken_by(app)
    assert taken is not None
    with pytest.raises(InvalidInput) as caught:
        check_parameters(taken, "", {"beta": 1, "size": 2, "bete": 3})
    told = "app 'sim' has no parameter 'bete'; it has beta, size. Did you mean 'beta'?"
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("app", "args", "given", "missing"),
    [
        (SIM, "", {"beta": 1}, "size"),
        (DECLARED, "", {}, "beta"),
        (RUN, "", {"size": 1}, "beta"),
        (SIM, "{{seed}}", {"beta": 1, "size": 1}, "seed"),
    ],
)
def test_one_that_is_missing(app: App, args: str, given: dict[str, int], missing: str) -> None:
    taken = taken_by(app)
    assert taken is not None
    with pytest.raises(InvalidInput, match=f"parameter '{missing}' of app 'sim' has no value"):
        check_parameters(taken, args, given)


def test_what_a_preprocess_hook_may_give_can_be_missing() -> None:
    taken = taken_by(PREPARED)
    assert taken is not None
    check_parameters(taken, "{{seed}}", {"beta": 1})


@pytest.mark.parametrize(
    "app", [App(name="old", executable="sim -x"), App(name="f", function=Function(hooks=["run"]))]
)
def test_an_app_that_tells_none(app: App) -> None:
    assert taken_by(app) is None
    assert shared_parameters(app, {"x": 1}) == {"x": 1}


def test_what_a_child_of_another_app_keeps() -> None:
    assert shared_parameters(SIM, {"beta": 1, "gamma": 2}) == {"beta": 1}
