"""Retry rules: read, printed, checked, matched."""

from __future__ import annotations

import signal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.errors import InvalidInput
from balsam.model.retry import (
    LARGEST_MIB,
    Rule,
    ending_text,
    grown_memory,
    grown_time,
    is_over_limit,
    parse_rule,
    parse_rules,
    rules_of,
    rules_text,
    signal_name,
)

NAMED = [one.name.removeprefix("SIG") for one in signal.Signals]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            "exit=137: memory*2, max=3",
            Rule(on="exit", exit_codes=(137,), memory_factor=2.0, max=3),
        ),
        ("signal=KILL,SEGV: delay=30", Rule(on="signal", signals=("KILL", "SEGV"), delay=30.0)),
        (
            "exit=1-9,42: max=5, delay=10, backoff=2",
            Rule(on="exit", exit_codes=((1, 9), 42), max=5, delay=10.0, backoff=2.0),
        ),
        ("timeout: time*1.5, max=4", Rule(on="timeout", time_factor=1.5, max=4)),
        ("any: max=1", Rule(on="any")),
        ("any", Rule(on="any")),
        ("exit=2: never", Rule(on="exit", exit_codes=(2,), never=True)),
        ("timeout: time+30", Rule(on="timeout", time_add_minutes=30.0)),
        ("any: memory+512", Rule(on="any", memory_add_mib=512)),
        ("any: longest=60, delay=1", Rule(on="any", delay=1.0, longest=60.0)),
        ("  signal = sigterm , 9 : max = 2 ", Rule(on="signal", signals=("TERM", "KILL"), max=2)),
        ("exit=5-5", Rule(on="exit", exit_codes=(5,))),
        ("signal=40", Rule(on="signal", signals=("40",))),
    ],
)  # fmt: skip
def test_reading(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exit137: memory*2", ["'exit137' is no condition", "exit=CODES"]),
        (": max=2", ["it begins with no condition"]),
        ("exti=137: max=2", ["'exti'", "exit"]),
        ("exit: max=2", ["needs one at least"]),
        ("exit=: max=2", ["'' is no exit code"]),
        ("exit=abc", ["'abc' is no exit code", "1-9,42"]),
        ("exit=0", ["'0'", "1-255"]),
        ("exit=9-1", ["'9-1'", "1-255"]),
        ("exit=300", ["'300'", "1-255"]),
        ("exit=-9", ["'-9' is no exit code"]),
        ("signal=KIL: max=2", ["no signal 'KIL'", "KILL"]),
        ("signal=0", ["no signal '0'"]),
        ("signal=65", ["no signal '65'"]),
        ("any=3: max=1", ["'any' takes no '='"]),
        ("timeout=3: max=1", ["'timeout' takes no '='"]),
        ("any: memory2", ["'memory2' is nothing to do", "memory*"]),
        ("any: max*2", ["'max*2' is nothing to do"]),
        ("any: memory=2", ["'memory=2' is nothing to do"]),
        ("any: max=x", ["'max=x' needs a whole number, not 'x'"]),
        ("any: max=1.5", ["'max=1.5' needs a whole number"]),
        ("any: memory*two", ["'memory*two' needs a number, not 'two'"]),
        ("any: max=0", ["max is 0; it must be 1 to"]),
        ("any: memory*0.5", ["memory* is 0.5; it must be 1 to 1000"]),
        ("any: memory*nan", ["memory* is nan"]),
        ("any: time*inf", ["time* is inf"]),
        ("any: memory+-5", ["memory+ is -5"]),
        ("any: delay=-1", ["delay is -1"]),
        ("any: backoff=2", ["backoff and longest need a delay"]),
        ("any: longest=20", ["backoff and longest need a delay"]),
        ("any: never, max=2", ["'never' stands alone"]),
        ("any: max=2, max=3", ["'max=3'", "second time"]),
        ("any: max=2,, delay=3", ["between two commas"]),
        ("any:", ["nothing to do after ':'"]),
        ("any: max=2 delay=3", ["'max=2 delay=3'"]),
    ],
)  # fmt: skip
def test_a_bad_rule_is_named_with_the_word_and_an_example(text: str, words: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_rule(text)
    message = str(caught.value)
    assert message.startswith(f"retry rule {text!r}: ")
    assert message.endswith("; an example: 'exit=137: memory*2, max=3'")
    assert "\n" not in message
    for word in words:
        assert word in message


def numbers(least: float, most: float) -> st.SearchStrategy[float]:
    return st.floats(least, most, allow_nan=False)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Any rule that can be followed, as it is kept."""
    on = draw(st.sampled_from(["exit", "signal", "timeout", "any"]))
    ranges = st.lists(st.integers(1, 255), min_size=2, max_size=2, unique=True).map(sorted)
    codes = st.lists(st.integers(1, 255) | ranges.map(tuple), min_size=1, max_size=4)  # type: ignore[arg-type]
    names = st.lists(st.sampled_from(NAMED), min_size=1, max_size=4)
    when: dict[str, Any] = {"on": on}
    if on == "exit":
        when["exit_codes"] = tuple(draw(codes))
    elif on == "signal":
        when["signals"] = tuple(draw(names))
    if draw(st.booleans()):
        return Rule(**when, never=True)
    delay = draw(st.just(0.0) | numbers(0.001, 1e7))
    return Rule(
        **when,
        max=draw(st.integers(1, 10**6)),
        memory_factor=draw(numbers(1, 1000)),
        memory_add_mib=draw(st.integers(0, 10**9)),
        time_factor=draw(numbers(1, 1000)),
        time_add_minutes=draw(numbers(0, 1e6)),
        delay=delay,
        backoff=draw(numbers(1, 1000)) if delay else 1.0,
        longest=draw(st.none() | numbers(0, 1e7)) if delay else None,
    )


@given(st.lists(rules(), max_size=4))
def test_what_is_printed_is_read_as_the_same(found: list[Rule]) -> None:
    assert parse_rules(rules_text(found)) == found
    assert rules_of(found) == found
    assert rules_of([str(rule) for rule in found]) == found


@given(st.lists(rules(), max_size=4))
def test_json_is_a_list_of_objects(found: list[Rule]) -> None:
    text = msgspec.json.encode(found)
    objects = msgspec.json.decode(text)
    assert all(isinstance(one, dict) for one in objects)
    assert rules_of(objects) == found
    assert msgspec.json.decode(text, type=list[Rule]) == found


@given(st.text(alphabet="exitsgnalmoutyKILL=:,;*+-. 0123456789", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_rules(text)
    except InvalidInput:
        return
    assert parse_rules(rules_text(found)) == found


def test_what_stands_for_rules() -> None:
    one = parse_rule("exit=137: memory*2")
    object_ = {"on": "exit", "exit_codes": [137], "memory_factor": 2}
    for value in (str(one), one, object_, [one], (str(one),), [object_]):
        assert rules_of(value) == [one]
    assert rules_of("any; exit=2: never") == rules_of(["any", "exit=2: never"])
    assert rules_of(Rule(on="signal", signals=("SIGKILL", "11"))) == [
        parse_rule("signal=KILL,SEGV")
    ]
    for empty in (None, "", " ; ", [], ()):
        assert rules_of(empty) == []


@pytest.mark.parametrize(
    "value",
    [
        7,
        b"any",
        [7],
        {"on": "sometimes"},
        {"on": "any", "max": "3"},
        {"on": "any", "retries": 3},
        {"exit_codes": [1]},
        {"on": "any", "exit_codes": [1]},
        {"on": "exit", "exit_codes": [[9, 1]]},
        {"on": "any", "x": object()},
        Rule(on="any", max=0),
        Rule(on="signal", signals=("FOO",)),
    ],
)
def test_what_cannot_stand_for_rules(value: Any) -> None:
    with pytest.raises(InvalidInput, match="retry"):
        rules_of(value)


# matching ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "matched", "others"),
    [
        ("exit=137", [137, -9], [1, 136, -8, 9, -137]),
        ("exit=1-9,42", [1, 5, 9, 42], [10, 41, 43, -1, -9]),
        ("signal=KILL,SEGV", [-9, -11, 137, 139], [9, 11, 1, -15, 143]),
        ("signal=40", [-40, 168], [40, -41]),
        ("any", [1, 255, -9, None], []),
        ("timeout", [], [1, 143, -15, None]),
        ("exit=1-255", [1, 255, -9], [None]),
    ],
)
def test_matching(text: str, matched: list[int | None], others: list[int | None]) -> None:
    rule = parse_rule(text)
    assert [code for code in [*matched, *others] if rule.matches(code)] == matched


@pytest.mark.parametrize("text", ["exit=1-255", "signal=TERM", "any"])
def test_a_time_out_is_for_its_own_rule_alone(text: str) -> None:
    assert not parse_rule(text).matches(-15, timed_out=True)
    assert parse_rule("timeout").matches(-15, timed_out=True)


# what the rules do ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "delays"),
    [
        ("any", [0, 0, 0]),
        ("any: delay=10", [10, 10, 10]),
        ("any: delay=10, backoff=2", [10, 20, 40]),
        ("any: delay=1000, backoff=3", [1000, 3000, 3600]),
        ("any: delay=1000, backoff=3, longest=9000", [1000, 3000, 9000]),
        ("any: delay=100, longest=50", [50, 50, 50]),
        ("any: delay=7200, backoff=2", [7200, 7200, 7200]),
    ],
)
def test_delays(text: str, delays: list[float]) -> None:
    rule = parse_rule(text)
    assert [rule.delay_before(n) for n in (1, 2, 3)] == delays


def test_a_delay_never_overflows() -> None:
    assert parse_rule("any: delay=10, backoff=1000").delay_before(10**6) == 3600


@pytest.mark.parametrize(
    ("text", "memory", "used", "grown"),
    [
        ("any: memory*2", 1024, 900.0, 2048),
        ("any: memory*1.5", 3, None, 5),
        ("any: memory+512", 1024, None, 1536),
        ("any: memory*2, memory+1", 10, None, 21),
        ("any: memory*2", 0, 100.2, 202),
        ("any: memory*2", 0, None, 0),
        ("any: memory+512", 0, None, 0),
        ("any", 1024, 2000.0, 1024),
        ("any", 0, 2000.0, 0),
        ("any: memory*1000", 10**8, None, LARGEST_MIB),
    ],
)
def test_growth_of_memory(text: str, memory: int, used: float | None, grown: int) -> None:
    assert grown_memory(parse_rule(text), memory, used) == grown


@pytest.mark.parametrize(
    ("text", "minutes", "used", "grown"),
    [
        ("any: time*1.5", 30.0, 12.0, 45.0),
        ("any: time+30", 30.0, None, 60.0),
        ("any: time*1.1", 0.1, None, 0.11),
        ("any: time*2", 0.0, 1.5, 3.0),
        ("any: time*2", 0.0, None, 0.0),
        ("any", 30.0, 90.0, 30.0),
        ("any: time*1000", 1e6, None, 1e7),
    ],
)
def test_growth_of_time(text: str, minutes: float, used: float | None, grown: float) -> None:
    assert grown_time(parse_rule(text), minutes, used) == grown


@pytest.mark.parametrize(
    ("crashes", "limit", "over"),
    [(0, 0, False), (9, 0, False), (4, 5, False), (5, 5, True), (6, 5, True), (1, 1, True)],
)
def test_the_crash_limit(crashes: int, limit: int, over: bool) -> None:
    assert is_over_limit(crashes, limit) is over


def test_signals_have_their_names() -> None:
    assert [signal_name(code) for code in (None, 0, 1, 137, -9, -11, -40)] == [
        *(None, None, None, None),
        *("SIGKILL", "SIGSEGV", "signal 40"),
    ]
    assert ending_text(-9) == "ended by SIGKILL"
    assert ending_text(3) == "exit code 3"
