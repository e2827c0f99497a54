"""Where in a shell script a value stands, and how it has to be written there.

A value is one word, or a part of one, whatever is in it: it can never become syntax. In what is
not followed here (backquotes, ``$( )``, ``${ }``, arithmetic, here-documents) only values are
taken that need no quoting anywhere.
"""

from __future__ import annotations

import re
import shlex

from balsam.errors import InvalidInput

_HARMLESS = re.compile(r"[\w@%+=:,./-]*", re.ASCII)
_HEREDOC = re.compile(r"<<(-?)[ \t]*(?:'([^'\n]*)'|\"([^\"\n]*)\"|\\?([^\s;&|<>()'\"]+))")

#: What a value may stand in; all others are opaque.
_WORDS, _SINGLE, _DOUBLE, _COMMENT = "words", "single quotes", "double quotes", "a comment"
_OPENERS = {
    "'": _SINGLE,
    '"': _DOUBLE,
    "$'": "$' '",
    "$((": "(( ))",
    "$(": "$( )",
    "${": "${ }",
    "`": "backquotes",
}
_OPAQUE_WORDS = {"$( )", "( )", "backquotes"}
#: What is in these the shell changes before it, or another program, reads it.
_REWRITTEN = {"backquotes", "a here-document"}
_CLOSERS = {"'": {_SINGLE, "$' '"}, '"': {_DOUBLE}, "))": {"(( ))"}, "}": {"${ }"}}


class Script:
    """A shell script that is written piece by piece."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._text = ""
        self._stack = [_WORDS]
        self._escaped = False
        self._escaped_end = 0  #: where the last character ends that had a backslash before it
        self._heredocs: list[tuple[str, bool]] = []  #: those that begin with the next line

    @property
    def text(self) -> str:
        return self._text

    def add_value(self, value: str) -> None:
        """Add a value, quoted for where it stands.

        Raises
        ------
        InvalidInput
            It cannot stand there; the message has the line.
        """
        if _HARMLESS.fullmatch(value) and (value or self._stack[-1] != _WORDS):
            self._text += value
            self._escaped = False
            return
        opaque = [each for each in self._stack if each not in (_WORDS, _SINGLE, _DOUBLE, _COMMENT)]
        if opaque:
            raise self._error(value, f"inside {opaque[-1]}")
        if self._escaped or (self._text.endswith("$") and self._stack[-1] != _COMMENT):
            raise self._error(value, f"after {self._text[-1]!r}")
        if self._stack[-1] == _COMMENT:
            if not value.isprintable():
                raise self._error(value, "in a comment")
            self._text += value
        elif self._stack[-1] == _SINGLE:
            self._text += value.replace("'", "'\"'\"'")
        elif self._stack[-1] == _DOUBLE:
            self._text += re.sub(r'([\\"$`])', r"\\\1", value)
        else:
            self._text += shlex.quote(value)

    def add_text(self, text: str) -> None:
        """Add a part of the script as it is."""
        at = 0
        while at < len(text):
            at += self._read(text, at)

    def add_words(self, words: str) -> None:
        """Add words or lines that are ready for a shell; within quotes they are one value.

        Raises
        ------
        InvalidInput
            They would not be the same words there.
        """
        top = self._stack[-1]
        if top in (_SINGLE, _DOUBLE, "$' '", "${ }", "(( ))"):
            self.add_value(words)
            return
        if self._escaped or self._text.endswith("$"):
            raise self._error(words, f"after {self._text[-1]!r}")
        if top == _COMMENT and "\n" in words:
            raise self._error(words, "in a comment")
        if not {*self._stack}.isdisjoint(_REWRITTEN) and re.search(r"[\\$`]", words):
            raise self._error(words, f"inside {top}")
        self.add_text(words)

    def _error(self, value: str, where: str) -> InvalidInput:
        line = self._text.count("\n") + 1
        return InvalidInput(
            f"{self._source}: {value!r} cannot stand in line {line} of the script, {where}; give it"
            " to a variable of the shell first, NAME={{ … }}, and use that"
        )

    def _read(self, text: str, at: int) -> int:
        """Take what begins at *at*; return how many characters that are."""
        top = self._stack[-1]
        if top == "a here-document":
            return self._read_heredoc(text, at)
        if self._escaped:
            self._escaped = False
            self._escaped_end = len(self._text) + 1
            return self._take(text, at, 1)
        character = text[at]
        if character == "\n":
            return self._end_line(text, at)
        if top == _COMMENT:
            return self._take(text, at, 1)
        if character == "\\" and top != _SINGLE:
            self._escaped = True
            return self._take(text, at, 1)
        for closer, closed in _CLOSERS.items():
            if top in closed and text.startswith(closer, at):
                self._stack.pop()
                return self._take(text, at, len(closer))
        if top in (_SINGLE, "$' '"):
            return self._take(text, at, 1)
        return self._open(text, at, top)

    def _open(self, text: str, at: int, top: str) -> int:
        """Take what begins at *at* where words, or what they are made of, stand."""
        is_words = top == _WORDS or top in _OPAQUE_WORDS
        if text[at] == "`" and "backquotes" in self._stack:
            while self._stack.pop() != "backquotes":
                pass
            return self._take(text, at, 1)
        if is_words and self._at_word_start():
            if text[at] == "#":
                self._stack.append(_COMMENT)
                return self._take(text, at, 1)
            if text.startswith("((", at):
                self._stack.append("(( ))")
                return self._take(text, at, 2)
        if is_words and text.startswith("<<", at) and not self._text.endswith("<"):
            if text.startswith("<<<", at):
                return self._take(text, at, 3)
            if found := _HEREDOC.match(text, at):
                self._heredocs.append((found[2] or found[3] or found[4] or "", found[1] == "-"))
                return self._take(text, at, len(found[0]))
        for opener in sorted(_OPENERS, key=len, reverse=True):
            if text.startswith(opener, at) and not (top == _DOUBLE and opener in ("'", "$'", '"')):
                self._stack.append(_OPENERS[opener])
                return self._take(text, at, len(opener))
        if text[at] == "(" and top in {*_OPAQUE_WORDS, "(( ))"}:
            self._stack.append("( )")
        elif text[at] == ")" and top in ("$( )", "( )"):
            self._stack.pop()
        return self._take(text, at, 1)

    def _at_word_start(self) -> bool:
        end = len(self._text)
        return not end or (self._text[-1] in " \t\n;&|()" and self._escaped_end != end)

    def _end_line(self, text: str, at: int) -> int:
        if self._stack[-1] == _COMMENT:
            self._stack.pop()
        if self._heredocs and self._stack[-1] not in (_SINGLE, _DOUBLE, "$' '"):
            self._stack.append("a here-document")
        return self._take(text, at, 1)

    def _read_heredoc(self, text: str, at: int) -> int:
        count = self._take(text, at, 1)
        if text[at] == "\n":
            line = self._text[:-1].rpartition("\n")[2]
            delimiter, without_tabs = self._heredocs[0]
            if (line.lstrip("\t") if without_tabs else line) == delimiter:
                self._heredocs.pop(0)
                if not self._heredocs:
                    self._stack.pop()
        return count

    def _take(self, text: str, at: int, count: int) -> int:
        self._text += text[at : at + count]
        return count
