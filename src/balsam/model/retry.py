"""Retry rules: what follows when a job's run did not end well.

A rule is one line of text, the same on the command line, in a file's column and in Python::

    exit=137: memory*2, max=3
    signal=SEGV,BUS: delay=30
    exit=1-9,42: max=5, delay=10, backoff=2
    timeout: time*1.5, max=4
    exit=2: never
    any: max=1

What stands before the colon says which ends of a run it is for; the rest, what to do.
Rules are tried in order, the job's before the app's, and the first that matches decides.
In JSON a rule is an object with the fields of `Rule`.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import msgspec

from balsam.errors import InvalidInput, nearest

EXAMPLE = "exit=137: memory*2, max=3"
#: Shells and containers tell the end of a program by signal N as exit code 128 + N.
SIGNAL_BASE = 128
#: Longest delay in seconds, unless a rule says ``longest=`` or starts with more.
LONGEST_DELAY = 3600.0

#: Requests grow to here and not beyond: `Request.check` takes no more.
LARGEST_MIB, LARGEST_MINUTES = 999_999_999, 1e7

#: A code, or the first and the last of a range.
Codes = int | tuple[int, int]
On = Literal["exit", "signal", "timeout", "any"]


class Rule(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A retry rule: which ends of a run it is for, and what is done then."""

    on: On  #: any: every exit code and signal, no time-out
    exit_codes: tuple[Codes, ...] = ()  #: of ``exit``; 128 + N is also signal N
    signals: tuple[str, ...] = ()  #: of ``signal``: names without SIG; also exit code 128 + N
    max: int = 1  #: most retries that the job was charged by then; for timeout: most time-outs
    never: bool = False  #: do not retry
    memory_factor: float = 1.0  #: the job's memory_mib is multiplied by this
    memory_add_mib: int = 0  #: and increased by this
    time_factor: float = 1.0  #: the job's wall_time_minutes is multiplied by this
    time_add_minutes: float = 0.0  #: and increased by this
    delay: float = 0.0  #: seconds before it is run again
    backoff: float = 1.0  #: the delay grows by this factor with each retry
    longest: float | None = None  #: seconds that no delay exceeds; None: one hour

    def __str__(self) -> str:
        return text_of(self)

    def matches(self, exit_code: int | None, *, timed_out: bool = False) -> bool:
        """Tell whether the rule is for a run that ended so.

        Parameters
        ----------
        exit_code
            Minus the signal's number when a signal ended it.
        timed_out
            The launcher's time was over; then only ``timeout`` matches.
        """
        if timed_out or self.on == "timeout":
            return timed_out and self.on == "timeout"
        if self.on == "any":
            return True
        if exit_code is None:
            return False
        code = SIGNAL_BASE - exit_code if exit_code < 0 else exit_code
        if self.on == "exit":
            return any(_first(codes) <= code <= _last(codes) for codes in self.exit_codes)
        return code - SIGNAL_BASE in map(signal_number, self.signals)

    def delay_before(self, retry: int) -> float:
        """Return the seconds to wait before retry number *retry* (1, 2, …)."""
        longest = max(LONGEST_DELAY, self.delay) if self.longest is None else self.longest
        try:
            return float(min(longest, self.delay * self.backoff ** (retry - 1)))
        except OverflowError:
            return float(longest)


def _first(codes: Codes) -> int:
    return codes if isinstance(codes, int) else codes[0]


def _last(codes: Codes) -> int:
    return codes if isinstance(codes, int) else codes[1]


def signal_number(name: str) -> int:
    """Return the number of a signal by name (without SIG) or number, or 0."""
    if name.isascii() and name.isdecimal():
        return int(name)
    found = signal.Signals.__members__.get(f"SIG{name}")
    return 0 if found is None else int(found)


def signal_name(exit_code: int | None) -> str | None:
    """Return the signal that *exit_code* (minus its number) stands for: ``SIGKILL``, or None.

    One without a name is ``signal 40``.
    """
    if exit_code is None or exit_code >= 0:
        return None
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"


def ending_text(exit_code: int) -> str:
    """Return how a program failed, in words: its exit code or its signal."""
    name = signal_name(exit_code)
    return f"ended by {name}" if name else f"exit code {exit_code}"


# text --------------------------------------------------------------------------------


def text_of(rule: Rule) -> str:
    """Return the text that `parse_rule` reads as *rule*."""
    condition = str(rule.on)
    if rule.on == "exit":
        condition += "=" + ",".join(_codes_text(codes) for codes in rule.exit_codes)
    elif rule.on == "signal":
        condition += "=" + ",".join(rule.signals)
    if rule.never:
        return f"{condition}: never"
    actions = [f"max={rule.max}"]
    for name, factor, more in (
        ("memory", rule.memory_factor, rule.memory_add_mib),
        ("time", rule.time_factor, rule.time_add_minutes),
    ):
        actions += [f"{name}*{number_text(factor)}"] if factor != 1 else []
        actions += [f"{name}+{number_text(more)}"] if more else []
    actions += [f"delay={number_text(rule.delay)}"] if rule.delay else []
    actions += [f"backoff={number_text(rule.backoff)}"] if rule.backoff != 1 else []
    actions += [f"longest={number_text(rule.longest)}"] if rule.longest is not None else []
    return f"{condition}: {', '.join(actions)}"


def rules_text(rules: Iterable[Rule]) -> str:
    """Return the text that `parse_rules` reads as *rules*."""
    return "; ".join(map(text_of, rules))


def number_text(value: float) -> str:
    """Return a number as people write it: ``2`` for 2.0."""
    return repr(value).removesuffix(".0")


def _codes_text(codes: Codes) -> str:
    return str(codes) if isinstance(codes, int) else f"{codes[0]}-{codes[1]}"


def parse_rules(text: str) -> list[Rule]:
    """Read rules, separated by semicolons; empty text is none.

    Raises
    ------
    InvalidInput
        One of them cannot be taken; it is named, with the word and an example.
    """
    return [parse_rule(part.strip()) for part in text.split(";") if part.strip()]


def parse_rule(text: str) -> Rule:
    """Read one rule.

    Raises
    ------
    InvalidInput
        It cannot be taken; the message has the rule, the word and an example.
    """
    condition, colon, rest = text.partition(":")
    fields = _condition(text, condition.strip())
    words = [word.strip() for word in rest.split(",")] if colon else []
    for word in words:
        if not word:
            raise _refusal(text, "there is nothing to do after ':' or between two commas")
        name, value = _action(text, word)
        if name in fields:
            raise _refusal(text, f"{word!r} says a second time what {name.split('_')[0]} becomes")
        fields[name] = value
    return _normal(Rule(**fields), text)


def _condition(text: str, condition: str) -> dict[str, Any]:
    """Return the fields of a rule that what stands before the colon sets."""
    on, equals, listed = (part.strip() for part in condition.partition("="))
    if on not in get_args(On):
        what = f"{on!r} is no condition" if on else "it begins with no condition"
        hint = nearest(on, list(get_args(On)))
        raise _refusal(text, f"{what}; give exit=CODES, signal=NAMES, timeout or any.{hint}")
    items = [item.strip() for item in listed.split(",")] if equals else []
    match on:
        case "exit":
            return {"on": on, "exit_codes": tuple(_codes(text, item) for item in items)}
        case "signal":
            return {"on": on, "signals": tuple(items)}
    if equals:
        raise _refusal(text, f"{on!r} takes no '='")
    return {"on": on}


def _codes(text: str, item: str) -> Codes:
    first, dash, last = (part.strip() for part in item.partition("-"))
    numbers = [first, last] if dash else [first]
    if not all(n.isascii() and n.isdecimal() and len(n) < 10 for n in numbers):
        raise _refusal(text, f"{item!r} is no exit code; give numbers and ranges such as 1-9,42")
    return (int(first), int(last)) if dash else int(first)


def _signal(item: str) -> str:
    """Return a signal as rules keep it: its name without SIG, or its number."""
    name = item.upper().removeprefix("SIG")
    number = signal_number(name)
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return name


def _action(text: str, word: str) -> tuple[str, Any]:
    """Return the field of a rule that *word* sets, and its value."""
    if word == "never":
        return "never", True
    for sign in "*+=":
        name, found, value = (part.strip() for part in word.partition(sign))
        field = _FIELDS.get(name + sign) if found else None
        if field:
            return field, _number(text, word, value, whole=field in _WHOLE)
    hint = nearest(word, [*_FIELDS, "never"])
    raise _refusal(text, f"{word!r} is nothing to do; known are {', '.join(_FIELDS)}, never.{hint}")


#: What words begin with → the field that they set.
_FIELDS = {
    "max=": "max",
    "memory*": "memory_factor",
    "memory+": "memory_add_mib",
    "time*": "time_factor",
    "time+": "time_add_minutes",
    "delay=": "delay",
    "backoff=": "backoff",
    "longest=": "longest",
}
_WHOLE = ("max", "memory_add_mib")


def _number(text: str, word: str, value: str, *, whole: bool) -> float:
    try:
        return int(value) if whole else float(value)
    except ValueError:
        expected = "a whole number" if whole else "a number"
        raise _refusal(text, f"{word!r} needs {expected}, not {value!r}") from None


# values ------------------------------------------------------------------------------


def rules_of(value: object) -> list[Rule]:
    """Return rules from text, a `Rule`, an object as in JSON, or a list of these.

    Raises
    ------
    InvalidInput
        One of them cannot be taken.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return parse_rules(value)
    if isinstance(value, Rule):
        return [_normal(value, str(value))]
    if isinstance(value, Mapping):
        return [_from_object(value)]
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [rule for one in value for rule in rules_of(one)]
    raise InvalidInput(f"retry cannot be {value!r}; give rules such as {EXAMPLE!r}")


def _from_object(value: Mapping[Any, Any]) -> Rule:
    shown = msgspec.json.encode(value).decode() if _is_json(value) else repr(value)
    try:
        rule = msgspec.convert(value, Rule)
    except msgspec.ValidationError as error:
        raise _refusal(shown, str(error)) from error
    return _normal(rule, shown)


def _normal(rule: Rule, text: str) -> Rule:
    """Return *rule* as it is kept: one spelling for one meaning. Raises like `check_rule`."""
    signals = tuple(map(_signal, rule.signals))
    codes = tuple(_first(c) if _first(c) == _last(c) else c for c in rule.exit_codes)
    rule = msgspec.structs.replace(rule, signals=signals, exit_codes=codes)
    check_rule(rule, text)
    return rule


def _is_json(value: object) -> bool:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def check_rule(rule: Rule, text: str) -> None:
    """Raise `InvalidInput`, naming the rule as *text*, unless *rule* can be followed."""
    if bool(rule.exit_codes) != (rule.on == "exit"):
        raise _refusal(text, "exit codes belong to exit=, which needs one at least")
    if bool(rule.signals) != (rule.on == "signal"):
        raise _refusal(text, "signals belong to signal=, which needs one at least")
    for codes in rule.exit_codes:
        if not 1 <= _first(codes) <= _last(codes) <= 255:
            raise _refusal(text, f"{_codes_text(codes)!r} is not within the exit codes 1-255")
    for name in rule.signals:
        if not 1 <= signal_number(name) < signal.NSIG:
            known = [one.name.removeprefix("SIG") for one in signal.Signals]
            raise _refusal(text, f"there is no signal {name!r}.{nearest(name, known)}")
    if rule.never and rule != Rule(
        on=rule.on, exit_codes=rule.exit_codes, signals=rule.signals, never=True
    ):
        raise _refusal(text, "'never' stands alone: nothing else is done")
    for name, value, least, most in (
        ("max", rule.max, 1, 1e6),
        ("memory*", rule.memory_factor, 1, 1000),
        ("memory+", rule.memory_add_mib, 0, 1e9),
        ("time*", rule.time_factor, 1, 1000),
        ("time+", rule.time_add_minutes, 0, 1e6),
        ("delay=", rule.delay, 0, 1e7),
        ("backoff=", rule.backoff, 1, 1000),
        ("longest=", 0 if rule.longest is None else rule.longest, 0, 1e7),
    ):
        if not least <= value <= most:  # also refuses NaN
            raise _refusal(
                text,
                f"{name.rstrip('=')} is {number_text(value)}; it must be"
                f" {least} to {number_text(float(most))}",
            )
    if not rule.delay and (rule.backoff != 1 or rule.longest is not None):
        raise _refusal(text, "backoff and longest need a delay, such as delay=10")


def _refusal(text: str, reason: str) -> InvalidInput:
    return InvalidInput(f"retry rule {text!r}: {reason.rstrip('.')}; an example: {EXAMPLE!r}")


# what the rules do --------------------------------------------------------------------


def is_over_limit(crashes: int, limit: int) -> bool:
    """Tell whether a job whose run was lost *crashes* times is not to run again."""
    return 0 < limit <= crashes


def crash_reason(crashes: int, last: str) -> str:
    """Return why a job is over the crash limit; *last* says what happened now."""
    return (
        f"its node or launcher died {crashes} times while it ran; see its attempts and"
        f" launcher.crash_limit ({last})"
    )


def grown_memory(rule: Rule, memory_mib: int, used_mib: float | None) -> int:
    """Return the memory of the next run.

    A job that asks for none grows from what its run *used*; it goes on asking for none when
    that is not known.
    """
    basis = memory_mib or math.ceil(used_mib or 0)
    if not basis or (rule.memory_factor == 1 and not rule.memory_add_mib):
        return memory_mib
    return min(LARGEST_MIB, math.ceil(basis * rule.memory_factor) + rule.memory_add_mib)


def grown_time(rule: Rule, minutes: float, used_minutes: float | None) -> float:
    """Return the wall_time_minutes of the next run (see `grown_memory`)."""
    basis = minutes or used_minutes or 0.0
    if not basis or (rule.time_factor == 1 and not rule.time_add_minutes):
        return minutes
    return round(min(LARGEST_MINUTES, basis * rule.time_factor + rule.time_add_minutes), 3)
