"""Templates: ``{i}`` and ``{column}`` in the options of `balsam job`, compiled once for many jobs.

Only names that the source of the jobs has are replaced, so ``{"a": {i}}`` and
``awk '{print $1}'`` stay whole; so does ``{{name}}``, which is a parameter of the app.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from balsam.cli.values import as_text, json_value, parameter
from balsam.errors import InvalidInput

#: What makes a text, or a value, of one record.
Maker = Callable[[Sequence[Any]], Any]
#: Formats that every whole number takes.
_WHOLE = re.compile(r"[<>=^]?[+ ]?#?0?\d{0,4}[,_]?[dxXob]?")


class Templates:
    """Compiles texts for records with the columns *names*.

    Parameters
    ----------
    names
        Column name → position in a record.
    whole
        The values are whole numbers: `compile` may then check formats once, for all records.
    typed
        A text is text even when it looks like a number or JSON.
    """

    def __init__(
        self, names: Mapping[str, int], *, whole: bool = False, typed: bool = False
    ) -> None:
        self._names = names
        self._whole = whole
        self._typed = typed
        self.used: set[str] = set()  #: names that some template has
        known = sorted(map(re.escape, names), key=len, reverse=True)
        self._pattern = re.compile(
            rf"\{{\{{\s*\w+\s*\}}\}}|\{{({'|'.join(known)})(?::([^{{}}]*))?\}}"
            if known
            else r"(?!)"
        )

    def compile(self, text: str, what: str) -> Maker | None:
        """Return what makes *text* of a record, or None when it is the same for all.

        Raises
        ------
        InvalidInput
            A format fits no whole number; the message starts with *what*. The maker
            raises it for a value that is missing or that its format does not fit.
        """
        pieces, holes = self._split(text, what)
        if not holes:
            return None
        if len(holes) == 1 and not holes[0][1]:
            return _around(pieces[0], self._getter(holes[0][0], what), pieces[1])
        shape = pieces[0].replace("{", "{{").replace("}", "}}")
        getters: list[Maker] = []
        for n, (name, spec) in enumerate(holes):
            shape += f"{{{n}:{spec}}}" if spec else f"{{{n}}}"
            shape += pieces[n + 1].replace("{", "{{").replace("}", "}}")
            getters.append(self._number_getter(name, what) if spec else self._getter(name, what))
        return _formatted(shape, getters, what)

    def compile_value(self, text: str, what: str) -> Maker | None:
        """Return what makes the parameter value *text*; one lone ``{x}`` keeps its type."""
        pieces, holes = self._split(text, what)
        if len(holes) == 1 and not holes[0][1] and pieces == ["", ""]:
            position, name, typed = self._names[holes[0][0]], holes[0][0], self._typed

            def value(record: Sequence[Any]) -> Any:
                found = _present(record[position], name, what)
                return found if typed or not isinstance(found, str) else parameter(found)

            return value
        maker = self.compile(text, what)
        if maker is None:
            return None
        make = maker
        return lambda record: parameter(make(record))

    def compile_json(self, text: str, what: str) -> Maker | None:
        """Return what makes the JSON value *text*, or None when it is the same for all.

        Inside a JSON string the value is escaped; elsewhere it is a number, or JSON, or
        else text in quotation marks.
        """
        pieces, holes = self._split(text, what)
        if not holes:
            return None
        getters = []
        quoted = False
        for n, (name, spec) in enumerate(holes):
            quoted = _inside_string(pieces[n], quoted)
            getters.append(_as_json(self._shown(name, spec, what), quoted, self._typed))
        tail = list(zip(getters, pieces[1:], strict=True))

        def value(record: Sequence[Any]) -> Any:
            filled = pieces[0] + "".join(get(record) + piece for get, piece in tail)
            return json_value(filled, what)

        return value

    def _shown(self, name: str, spec: str, what: str) -> Maker:
        if spec:
            return _formatted(f"{{0:{spec}}}", [self._number_getter(name, what)], what)
        position = self._names[name]
        return lambda record: _present(record[position], name, what)

    def _split(self, text: str, what: str) -> tuple[list[str], list[tuple[str, str]]]:
        """Return the literal pieces, one more than holes, and the (name, format) of each hole."""
        pieces = [""]
        holes: list[tuple[str, str]] = []
        end = 0
        for match in self._pattern.finditer(text):
            pieces[-1] += text[end : match.start()]
            end = match.end()
            name, spec = match[1], match[2] or ""
            if name is None:
                pieces[-1] += match[0]
                continue
            if self._whole and spec and not _WHOLE.fullmatch(spec):
                raise InvalidInput(
                    f"{what}: {match[0]} has no format for a whole number; e.g. {{{name}:04d}}"
                )
            self.used.add(name)
            holes.append((name, spec))
            pieces.append("")
        pieces[-1] += text[end:]
        return pieces, holes

    def _getter(self, name: str, what: str) -> Maker:
        position = self._names[name]
        if self._whole:
            return lambda record: str(record[position])
        return lambda record: as_text(_present(record[position], name, what))

    def _number_getter(self, name: str, what: str) -> Maker:
        position = self._names[name]
        if self._whole:
            return lambda record: record[position]
        return lambda record: _number(_present(record[position], name, what))


def _around(before: str, get: Maker, after: str) -> Maker:
    if not before and not after:
        return get
    return lambda record: before + get(record) + after


def _formatted(shape: str, getters: list[Maker], what: str) -> Maker:
    fill = shape.format

    def text(record: Sequence[Any]) -> str:
        values = [get(record) for get in getters]
        try:
            return fill(*values)
        except (ValueError, TypeError) as error:
            shown = ", ".join(map(repr, values))
            raise InvalidInput(f"{what}: {shown} does not fit the format: {error}") from error

    return text


def _present(value: Any, name: str, what: str) -> Any:
    if value is None:
        raise InvalidInput(f"{what} uses {{{name}}}, which has no value here")
    return value


def _number(value: Any) -> Any:
    """Return *value* as the number it spells, that formats such as ``04d`` may apply."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _inside_string(piece: str, quoted: bool) -> bool:
    """Tell whether JSON is inside a string after *piece*, having been so (*quoted*) before."""
    escaped = False
    for char in piece:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = quoted
        elif char == '"':
            quoted = not quoted
    return quoted


def _as_json(get: Maker, inside: bool, typed: bool) -> Maker:
    if inside:
        return lambda record: msgspec.json.encode(as_text(get(record))).decode()[1:-1]

    def bare(record: Sequence[Any]) -> str:
        value = get(record)
        if typed or not isinstance(value, str):
            return msgspec.json.encode(value).decode()
        try:
            msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.encode(value).decode()
        return value

    return bare
