"""Read what the kernel shows in /proc and /sys; what is not there, or not for us, is empty."""

from __future__ import annotations

import os

from balsam.model.cpus import cpu_numbers


def read_text(file: str) -> str:
    """Return what is in *file*, without space around it."""
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return opened.read().strip()
    except OSError:
        return ""


def read_cpus(file: str) -> tuple[int, ...]:
    """Return the CPU numbers that *file* lists."""
    return cpu_numbers(read_text(file))


def names_in(directory: str) -> list[str]:
    """Return the names in *directory*, in no order."""
    try:
        return os.listdir(directory)
    except OSError:
        return []
