"""What adapters have in common when they read answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from balsam.errors import NoScheduler, SchedulerAway, SchedulerRefused, UnreadableAnswer
from balsam.schedulers.scheduler import Answer, Run

#: A longer line is shortened in messages.
_MOST = 200


def says(run: Run, argv: Sequence[str], pattern: str) -> bool:
    """Tell whether what *argv* writes, however it ends, has *pattern* in it; false without it.

    Several batch systems have a `qsub` and a `qstat`. They are told apart by what these say of
    themselves, never by which programs there are.

    Raises
    ------
    SchedulerAway
        It is there, but does not answer.
    """
    try:
        answer = run(argv)
    except NoScheduler:
        return False
    return re.search(pattern, f"{answer.out}\n{answer.err}", re.MULTILINE) is not None


def text_of(answer: Answer, away: re.Pattern[str]) -> str:
    """Return the standard output of a command that ended well.

    Parameters
    ----------
    away
        What its complaint has in it when the system cannot be asked just now.

    Raises
    ------
    SchedulerAway, SchedulerRefused
        It ended otherwise.
    """
    if answer.code == 0:
        return answer.out
    raise failure(answer, away)


def failure(answer: Answer, away: re.Pattern[str]) -> SchedulerAway | SchedulerRefused:
    """Return the error for a command that did not end well."""
    error = SchedulerAway if away.search(f"{answer.err}\n{answer.out}") else SchedulerRefused
    return error(f"{answer.argv[0]}: {answer.complaint}")


def unreadable(answer: Answer, line: str, expected: str) -> UnreadableAnswer:
    """Return the error for a *line* of what a command wrote; '' is the end of it."""
    told = repr(line if len(line) <= _MOST else f"{line[:_MOST]}…") if line else "nothing"
    return UnreadableAnswer(f"{answer.argv[0]} wrote {told}, and {expected} was expected")


def rows_after(answer: Answer, header: str, text: str) -> list[str]:
    """Return the lines of *text* that follow the line *header*; what comes before it is chatter.

    A command that is asked for its header always writes a line, so that an answer which was lost
    is not taken for one about nothing.

    Raises
    ------
    UnreadableAnswer
        There is no such line.
    """
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.rstrip() == header:
            return lines[number + 1 :]
    raise unreadable(answer, next(iter(filter(str.strip, lines)), ""), f"the line {header!r}")


def of_ours(lines: Iterable[str], ids: Iterable[str]) -> list[str]:
    """Return the lines that begin with one of *ids*; those of others may be unreadable."""
    wanted = set(ids)
    return [line for line in lines if _first_word(line) in wanted]


def _first_word(line: str) -> str:
    match = re.match(r"\w+", line)
    return match[0] if match else ""
