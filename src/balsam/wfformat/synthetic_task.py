"""A task that only looks like one: it uses CPU for a time, checks its files and writes some.

    synthetic_task.py DIRECTORY SECONDS CORES [--read B:F…] [--given B:F…] [--write B:F…]

``B:F`` is a file of B bytes in DIRECTORY, which is below the site when it is relative. Those
of ``--read`` must be there, with their size; those of ``--given`` are made when they are not.
Started as ``python -I -S``, with the standard library alone: a campaign starts it a million times.
"""

from __future__ import annotations

import os
import sys
import time

CHUNK = bytes(1 << 20)


def main(words: list[str]) -> int:
    """Do what *words* say and return the exit code: 1 when a file is not as it should be."""
    directory, seconds, cores = words[:3]
    directory = os.path.join(os.environ.get("BALSAM_SITE", "."), directory)
    files: dict[str, list[tuple[int, str]]] = {"--read": [], "--given": [], "--write": []}
    option = "--read"
    for word in words[3:]:
        if word in files:
            option = word
            continue
        count, _, name = word.partition(":")
        files[option].append((int(count), os.path.join(directory, name)))
    try:
        os.makedirs(directory, exist_ok=True)
        for size, path in files["--given"]:
            if not os.path.exists(path):
                write(path, size)
        wrong = [told for size, path in files["--read"] if (told := complaint(path, size))]
        if wrong:
            print(*wrong, sep="\n", file=sys.stderr)
            return 1
        work(float(seconds), int(cores))
        for size, path in files["--write"]:
            write(path, size)
    except OSError as error:
        print(f"{error.filename or directory}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def complaint(path: str, size: int) -> str:
    """Return what is wrong with the file at *path*, '' when it is there with *size* bytes."""
    try:
        found = os.stat(path).st_size
    except FileNotFoundError:
        return f"{path} is missing"
    return "" if found == size else f"{path} has {found} bytes instead of {size}"


def work(seconds: float, cores: int) -> None:
    """Keep *cores* busy for *seconds*."""
    end = time.monotonic() + seconds
    children = []
    for _ in range(cores - 1 if seconds else 0):
        child = os.fork()
        if not child:
            spin(end)
            os._exit(0)
        children.append(child)
    spin(end)
    for child in children:
        os.waitpid(child, 0)


def spin(end: float) -> None:
    """Keep a core busy until *end*."""
    while time.monotonic() < end:
        pass


def write(path: str, size: int) -> None:
    """Write *size* zeros to a file of another name, then rename it: it is never there in part."""
    aside = f"{path}.{os.uname().nodename}.{os.getpid()}.part"
    with open(aside, "wb") as stream:
        for _ in range(size // len(CHUNK)):
            stream.write(CHUNK)
        stream.write(CHUNK[: size % len(CHUNK)])
    os.replace(aside, path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
