"""Warning signals: what a job's processes are sent before the launcher's time ends.

``USR1@120`` is signal USR1, 120 seconds before. The spelling is that of Slurm's ``--signal``
(https://slurm.schedmd.com/sbatch.html, 24.11), and so is the time where none is given.
"""

from __future__ import annotations

import signal
from typing import NamedTuple

from balsam.errors import InvalidInput, nearest
from balsam.model.retry import signal_number

EXAMPLE = "USR1@120"
#: Seconds before the end where none are said.
DEFAULT_SECONDS = 60
#: Earlier would be no warning of the end: a day.
MOST_SECONDS = 86_400
#: Says in a job that it wants no warning, though its app has one.
NONE = "none"
#: Nothing can catch these.
_FATAL = (signal.SIGKILL, signal.SIGSTOP)


class EndWarning(NamedTuple):
    """A signal that tells a job's processes that the launcher's time is nearly over."""

    number: int
    seconds: int  #: before the end of the launcher's time

    def __str__(self) -> str:
        """Return the normal spelling, ``USR1@120``."""
        return f"{_name(self.number)}@{self.seconds}"


def parse_warning(text: str) -> EndWarning | None:
    """Return the warning that *text* means; None for '' and ``none``.

    A signal is a name, with or without SIG, or a number; seconds are a whole number.

    Raises
    ------
    InvalidInput
        There is no such signal, no program can catch it, or the seconds are none.
    """
    name, at, seconds = text.strip().partition("@")
    if not at and name.lower() in ("", NONE):
        return None
    number = signal_number(name.strip().upper().removeprefix("SIG"))
    if not 1 <= number < signal.NSIG:
        known = [one.name.removeprefix("SIG") for one in signal.Signals]
        raise _refusal(text, f"there is no signal {name!r}.{nearest(name.upper(), known)}")
    if number in _FATAL:
        raise _refusal(text, f"{_name(number)} warns nobody: no program can catch it")
    return EndWarning(number, _seconds(text, seconds) if at else DEFAULT_SECONDS)


def warning_of(job_signal: str, app_signal: str) -> EndWarning | None:
    """Return the warning of a job: its own signal goes before its app's.

    Raises
    ------
    InvalidInput
        The one that counts is none (the database holds none such).
    """
    return parse_warning(job_signal or app_signal)


def _seconds(text: str, seconds: str) -> int:
    digits = seconds.strip()
    if digits.isascii() and digits.isdecimal() and 1 <= int(digits) <= MOST_SECONDS:
        return int(digits)
    raise _refusal(text, f"{seconds!r} are no seconds; give a whole number, 1 to {MOST_SECONDS}")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def _refusal(text: str, reason: str) -> InvalidInput:
    return InvalidInput(f"signal {text!r}: {reason.rstrip('.')}; an example: {EXAMPLE!r}")
