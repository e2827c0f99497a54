"""Hooks that are Python functions: how the fields of an app name them.

``python:package.module:function`` is imported by the hook's process. ``python:script:function@``
and eight hexadecimal digits goes along with the app, in `Function.functions`: the digits are of
its code, so that another code has another name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from balsam.errors import InvalidInput

#: What a hook begins with that is no command.
MARK = "python:"
_FORM = re.compile(r"([^\s:@]+):([^\s:@]+)(@[0-9a-f]{8})?")


class HookFunction(NamedTuple):
    """A function that is a hook."""

    module: str
    name: str  #: qualified
    goes_along: bool  #: its code is in the app; else it is imported

    @property
    def is_importable(self) -> bool:
        """Whether module and name can be those of something to import."""
        return all(map(str.isidentifier, [*self.module.split("."), *self.name.split(".")]))


def hook_function(hook: str) -> HookFunction | None:
    """Return the function that *hook*, a field of an app, names; None when it is a command.

    Raises
    ------
    InvalidInput
        It begins with ``python:`` and names none.
    """
    if not hook.startswith(MARK):
        return None
    match = _FORM.fullmatch(hook.removeprefix(MARK).strip())
    if match:
        found = HookFunction(match[1], match[2], goes_along=match[3] is not None)
        if found.goes_along or found.is_importable:
            return found
    raise InvalidInput(
        f"{hook!r} names no function; give {MARK}package.module:function, without arguments: it is"
        " called with the job"
    )
