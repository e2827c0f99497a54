"""Where attempts ran, as text."""

from __future__ import annotations

import pytest

from balsam.cli import output
from balsam.errors import InvalidInput
from balsam.model.wire import Attempt, Placement, parts_of, placement_text

PARTS = [
    (Placement(node="h1"), "h1"),
    (Placement(node="h1", cores="3", count=1.0), "h1: core 3"),
    (Placement(node="h1", cores="0-3,8", count=5.0), "h1: cores 0-3,8"),
    (Placement(node="h1", count=4.0), "h1: 4 cores"),
    (Placement(node="h1", count=1.0), "h1: 1 core"),
    (Placement(node="h1", count=0.25), "h1: 0.25 cores"),
    (
        Placement(node="h1", cores="0", count=1.0, gpus={"0": 0.25, "1": 1.0}, memory_mib=512),
        "h1: core 0, GPU 0 (0.25), GPU 1, 512 MiB",
    ),
]


@pytest.mark.parametrize(("part", "text"), PARTS)
def test_what_a_person_reads(part: Placement, text: str) -> None:
    assert str(part) == text


def test_there_and_back() -> None:
    parts = [part for part, _ in PARTS]
    assert parts_of(placement_text(iter(parts))) == parts
    assert placement_text([]) == ""
    assert parts_of("") == []


def test_the_text() -> None:
    """Other programs read it."""
    part = Placement(node="h1", cores="0-3", count=4.0, gpus={"0": 0.25})
    assert placement_text([part]) == (
        '[{"node":"h1","cores":"0-3","count":4.0,"gpus":{"0":0.25},"memory_mib":0}]'
    )


@pytest.mark.parametrize("text", ["x", "{}", "[1]", '[{"cores":"0"}]'])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="placement"):
        parts_of(text)


def test_json_has_an_array_and_a_table_what_a_person_reads() -> None:
    attempt = Attempt(
        job=1,
        number=1,
        launcher_id=1,
        placement=placement_text(
            [Placement(node="h1", cores="0", count=1.0), Placement(node="h2")]
        ),
    )
    record = output.attempt_record(attempt)
    assert [part["node"] for part in record["placement"]] == ["h1", "h2"]
    assert record["placement"][0]["cores"] == "0"
    assert output.text("placement", record["placement"]) == "h1: core 0; h2"
    attempt.placement = ""
    assert output.attempt_record(attempt)["placement"] == []
    assert output.text("placement", []) == ""
