"""Warning signals as text."""

from __future__ import annotations

import signal

import pytest

from balsam.errors import InvalidInput
from balsam.model.warning import EXAMPLE, EndWarning, parse_warning, warning_of


@pytest.mark.parametrize(
    ("text", "number", "seconds"),
    [
        ("USR1@120", signal.SIGUSR1, 120),
        ("SIGUSR1@120", signal.SIGUSR1, 120),
        (" sigterm @ 5 ", signal.SIGTERM, 5),
        ("10@1", 10, 1),
        ("usr2", signal.SIGUSR2, 60),
        ("40@86400", 40, 86_400),
        (EXAMPLE, signal.SIGUSR1, 120),
    ],
)
def test_what_is_understood(text: str, number: int, seconds: int) -> None:
    assert parse_warning(text) == EndWarning(number, seconds)


@pytest.mark.parametrize("text", ["", " ", "none", "NONE"])
def test_no_warning(text: str) -> None:
    assert parse_warning(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("USR9@120", "there is no signal 'USR9'. Did you mean 'USR"),
        ("USR1@", "'' are no seconds"),
        ("USR1@soon", "'soon' are no seconds"),
        ("USR1@0", "'0' are no seconds"),
        ("USR1@-5", "'-5' are no seconds"),
        ("USR1@1.5", "'1.5' are no seconds"),
        ("USR1@86401", "1 to 86400"),
        ("USR1@²", "'²' are no seconds"),
        ("@60", "there is no signal ''"),
        ("none@60", "there is no signal 'none'"),
        ("0@60", "there is no signal '0'"),
        ("65@60", "there is no signal '65'"),
        ("KILL@60", "no program can catch it"),
        ("19@60", "STOP warns nobody"),
        ("USR1@60 TERM@5", "'60 TERM@5' are no seconds"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_warning(text)
    assert reason in str(caught.value)
    assert repr(EXAMPLE) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["USR1@120", "TERM@60", "40@5"])
def test_the_normal_spelling_is_understood(text: str) -> None:
    assert str(parse_warning(text)) == text


def test_a_jobs_signal_goes_before_its_apps() -> None:
    assert warning_of("USR1@1", "USR2@2") == EndWarning(signal.SIGUSR1, 1)
    assert warning_of("", "USR2@2") == EndWarning(signal.SIGUSR2, 2)
    assert warning_of("none", "USR2@2") is None
    assert warning_of("", "") is None
