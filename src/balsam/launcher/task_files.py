"""A task's directory, program and output: what is looked at before it starts and after its end."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from balsam.launcher.messages import Task

OUTPUT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
TAIL_BYTES, TAIL_LINES = 2000, 16


_BASH = "/bin/bash"
#: Sources its first argument, which sees no arguments, and becomes the rest; nothing is ever
#: put into this text.
_SOURCE = (
    'balsam_words=("$@"); set --; source "${balsam_words[0]}" || exit; exec "${balsam_words[@]:1}"'
)


class CannotStart(Exception):
    """A task cannot be started; the text says why."""


class Stream(NamedTuple):
    """One shared output file; one task writes to it at a time."""

    path: str
    descriptor: int


class Streams:
    """The shared output files of a spawner.

    Parameters
    ----------
    prefix
        Path of the files, to which ``-{n}.out`` is added.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._free: list[Stream] = []
        self._count = 0

    def take(self) -> Stream:
        """Return one that nobody writes to; a new one when there is none."""
        if self._free:
            return self._free.pop()
        os.makedirs(os.path.dirname(self._prefix), exist_ok=True)
        path = f"{self._prefix}-{self._count}.out"
        self._count += 1
        return Stream(path, os.open(path, OUTPUT_FLAGS, 0o666))

    def give_back(self, stream: Stream) -> None:
        self._free.append(stream)


class Programs:
    """Where programs are, each looked up once.

    Parameters
    ----------
    path
        The PATH to search, where a task has none of its own.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._found: dict[tuple[str, str], str] = {}

    def find(self, word: str, path: str | None) -> str:
        """Return the file to execute for the first word of a command.

        Raises
        ------
        CannotStart
            There is none.
        """
        if "/" in word:
            return word
        key = (word, path or "")
        found = self._found.get(key)
        if found is None:
            search = path or self._path
            found = _which(word, search)
            if found is None:
                raise CannotStart(f"program {word!r} is not found in PATH ({search})")
            if all(directory.startswith("/") for directory in search.split(os.pathsep)):
                self._found[key] = found
        return found

    def forget(self, program: str) -> bool:
        """Look all up anew if *program* is gone; tell whether there is reason to try again."""
        if not self._found or os.path.exists(program):
            return False
        self._found.clear()
        return True


def _which(word: str, path: str) -> str | None:
    for directory in path.split(os.pathsep):
        file = os.path.join(directory or ".", word)
        try:
            mode = os.stat(file).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) and os.access(file, os.X_OK):
            return os.path.abspath(file)
    return None


def words_of(task: Task) -> list[str]:
    """Return the words to execute for *task*: its own, behind its envscript's when it has one.

    Raises
    ------
    CannotStart
        There is no such envscript.
    """
    if not task.envscript:
        return task.argv
    if not os.path.isfile(task.envscript):
        raise CannotStart(f"envscript {task.envscript} does not exist")
    return [_BASH, "-c", _SOURCE, "balsam", task.envscript, *task.argv]


def enter(task: Task) -> None:
    """Make the task's directory the working directory, creating it where it is Balsam's."""
    try:
        if task.make_cwd and not task.append:
            try:
                os.mkdir(task.cwd)
            except FileExistsError:
                pass
            except FileNotFoundError:
                os.makedirs(task.cwd, exist_ok=True)
        os.chdir(task.cwd)
    except FileNotFoundError as error:
        if not task.make_cwd:
            raise CannotStart(f"working directory {task.cwd} does not exist") from error
        try:  # removed since its first attempt
            os.makedirs(task.cwd, exist_ok=True)
            os.chdir(task.cwd)
        except OSError as again:
            raise CannotStart(f"working directory {task.cwd}: {again.strerror}") from again
    except OSError as error:
        raise CannotStart(f"working directory {task.cwd}: {error.strerror}") from error


def prepare_output(task: Task) -> int:
    """Write the output's header; return where the task's own output begins."""
    if task.header:
        with open(task.output, "a") as file:
            file.write(task.header)
            return file.tell()
    if task.append or not task.make_cwd:
        try:
            return os.stat(task.output).st_size
        except FileNotFoundError:
            return 0
    return 0


def reason(error: OSError | ValueError, program: str, task: Task) -> str:
    if isinstance(error, ValueError):  # a zero byte in an argument
        return f"cannot start {program!r}: {error}"
    if task.output:
        try:
            os.close(os.open(task.output, OUTPUT_FLAGS, 0o666))
        except OSError as output:
            return f"output {task.cwd}/{task.output}: {output.strerror}"
    match error.errno:
        case errno.ENOENT if os.path.exists(program):
            return f"cannot start {program}: the interpreter in its first line does not exist"
        case errno.ENOENT:
            return f"program {program} does not exist"
        case errno.EACCES:
            return f"program {program} may not be executed"
        case errno.ENOEXEC:
            return f"{program} is no program: a script needs '#!' and its interpreter on line 1"
        case errno.E2BIG:
            return f"the arguments of {program} are too long for this system"
    return f"cannot start {program}: {error.strerror}"


def take_result(calls_file: str) -> str:
    """Return what the ranks of a parallel call left as its result; remove their files."""
    found = ""
    for ending in (".result", ".error"):
        try:
            with open(calls_file + ending) as file:
                found = file.read()
            os.unlink(calls_file + ending)
        except (OSError, UnicodeDecodeError):
            pass
    try:
        os.unlink(calls_file)
    except OSError:
        pass
    return found


def tail(path: str, offset: int, size: int) -> str:
    """Return the last lines of an output."""
    try:
        with open(path, "rb") as file:
            start = max(0, size - TAIL_BYTES)
            file.seek(offset + start)
            text = file.read(size - start).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().split("\n")[-TAIL_LINES:])
