"""What is text in 0.x: environment variables and history."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.compat.texts import entered, environ_of, environ_text, history_line, history_text
from balsam.model.wire import Event


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("", {}),
        (None, {}),
        ({}, {}),
        ("A=1:B=2", {"A": "1", "B": "2"}),
        ("PATH=/a:/b", {"PATH": "/a:/b"}),
        ("PATH=/a:/b:N=1", {"PATH": "/a:/b", "N": "1"}),
        ("URL=http://host:80/x=y", {"URL": "http://host:80/x=y"}),
        ("A=b=c", {"A": "b=c"}),
        ("ALONE", {"ALONE": ""}),
        ("ALONE:A=1", {"ALONE": "", "A": "1"}),
        ("A=1:ALONE:B=2", {"A": "1", "ALONE": "", "B": "2"}),
        ({"N": 1}, {"N": "1"}),
    ],
)
def test_environment_variables(text: str, environ: dict[str, str]) -> None:
    """Faults A11: the default was a variable named '{}'; a value was torn at its colon."""
    assert environ_of(text) == environ


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
PATHS = st.lists(st.from_regex(r"/[a-z./]{0,6}", fullmatch=True), min_size=1).map(":".join)


@given(st.dictionaries(NAMES, st.one_of(PATHS, st.from_regex(r"[^:]{0,8}", fullmatch=True))))
def test_what_is_written_is_read(environ: dict[str, str]) -> None:
    assert environ_of(environ_text(environ)) == environ


def test_history() -> None:
    events = [
        Event(time=1_900_000_000.25, job=1, from_state="", to_state="PREPROCESSED"),
        Event(
            time=1_900_000_001, job=1, from_state="PREPROCESSED", to_state="RUNNING", message="x"
        ),
    ]
    assert [state for state, _, _ in entered(events)] == ["CREATED", "PREPROCESSED", "RUNNING"]
    lines = history_text(events).splitlines()
    assert lines[0].isspace()
    assert lines[-1].rstrip().endswith(" RUNNING] x")
    told = datetime.strptime(lines[1].split(" CREATED]")[0].strip(), "[%m-%d-%Y %H:%M:%S.%f")
    assert told == datetime.fromtimestamp(1_900_000_000.25)
    assert history_line("FAILED", "why").endswith(" FAILED] why")
