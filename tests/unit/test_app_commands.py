"""Command lines: words, parameters, and that no value becomes syntax (faults A12, A11)."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.errors import CannotStart, InvalidInput
from balsam.model.app import App, command_line, fill, split_words

#: Any text that an argument vector can carry.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


def app(executable: str) -> App:
    return App(name="x", executable=executable)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("/bin/echo hello", ["/bin/echo", "hello"]),
        ("  a \t b\n", ["a", "b"]),
        ("""'{"x": 1,  "y": [2]}'""", ['{"x": 1,  "y": [2]}']),
        ("""a "b  c" d""", ["a", "b  c", "d"]),
        (r"a\ b", ["a b"]),
        ("''", [""]),
        ("$HOME *.txt; rm -rf ~ && `id` > x | y #z", None),
    ],
)
def test_words(line: str, words: list[str] | None) -> None:
    assert split_words(line) == (line.split() if words is None else words)


@given(st.lists(texts))
def test_quoted_words_come_back(words: list[str]) -> None:
    assert split_words(shlex.join(words)) == words


@pytest.mark.parametrize("line", ["'a", 'a "b', "a\\"])
def test_an_open_quotation_is_refused(line: str) -> None:
    with pytest.raises(InvalidInput, match="cannot split"):
        split_words(line)


def test_blanks_in_a_quoted_argument_survive() -> None:
    assert command_line(app("prog"), """'{"a":  "b   c"}' x""", {}) == [
        "prog",
        '{"a":  "b   c"}',
        "x",
    ]


def test_parameters_fill_executable_and_arguments() -> None:
    values = {"prog": "p", "n": 3}
    line = command_line(app("{{ prog }} -n {{n}}"), "--out={{n}}-{{ n }}.txt", values)
    assert line == ["p", "-n", "3", "--out=3-3.txt"]


@given(texts)
def test_a_parameter_is_one_argument_whatever_is_in_it(value: str) -> None:
    assert command_line(app("prog {{x}} end"), "", {"x": value}) == ["prog", value, "end"]


@pytest.mark.parametrize("value", ["a b", "'", '"', "$(id)", "`id`", "; id", "{{y}}", "a\nb", ""])
def test_hostile_values_are_arguments(value: str) -> None:
    assert fill(["{{x}}"], {"x": value}) == [value]


def test_a_parameter_without_a_value_is_named() -> None:
    with pytest.raises(CannotStart, match="'missing'"):
        command_line(app("prog {{missing}}"), "", {"other": 1})


@pytest.mark.parametrize("executable", ["", "   ", "''x'"])
def test_an_app_without_a_command_cannot_start(executable: str) -> None:
    with pytest.raises(CannotStart):
        command_line(app(executable), "", {})


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    line = command_line(app("~/bin/prog a~b"), "~/x {{x}}", {"x": "~"})
    assert line == ["/home/me/bin/prog", "a~b", "/home/me/x", "~"]
