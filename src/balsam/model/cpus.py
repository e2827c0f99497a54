"""Sets of CPU numbers, as the kernel writes them: ``0-3,8``."""

from __future__ import annotations

from collections.abc import Iterable

from balsam.errors import InvalidInput


def cpu_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers in a CPU list such as ``0-3,8``, in its order; '' has none.

    Raises
    ------
    InvalidInput
        It is no such list.
    """
    numbers: list[int] = []
    for part in text.strip().split(",") if text.strip() else ():
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(part) > 20:
            raise InvalidInput(f"{text!r} is no list of CPUs; write one such as 0-3,8")
        low, high = int(first), int(last or first)
        if not low <= high < 2**16:
            raise InvalidInput(f"{part!r} is no range of CPUs; write the lower number first")
        numbers.extend(range(low, high + 1))
    return tuple(numbers)


def cpu_text(numbers: Iterable[int]) -> str:
    """Return *numbers* as a CPU list, runs of consecutive ones with a dash, in their order."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
