"""How arguments and results of Python functions are written: a letter, then the text.

==========  ==================================================================================
``J``       JSON. Of a call: ``[arguments, keywords]``; of a result: the value.
``P``       base64 of a (cloud)pickle of the same.
``F``       path of a file with a pickle, relative to the site: what is too large for a row.
``R``       like ``P``, with results of other jobs in it: persistent ids of the pickle are the
            integer ids of these jobs, which are its parents.
``M``       (arguments only) base64 of a pickle of many calls, ``[(arguments, keywords), …]``;
            the result then is the list of their values.
``G``       (arguments only) like ``F``, for many calls.
``E``       (results only) an exception: JSON of ``[type, text, traceback, pickle]``, the last
            one base64 of the pickled exception, or ''.
==========  ==================================================================================

Nothing here, nor anything in Balsam's own processes, loads a pickle: processes of jobs do, and
the user's program that asks for a result. The processes of jobs run under the user's Python and
read this file as it is: it needs the standard library only.
"""

from __future__ import annotations

import json
from typing import Any

#: Letters of payloads that refer to results of parents.
REFERS = "R"


def as_json(value: Any) -> str | None:
    """Return *value* as JSON that reads back as exactly the same, or None where that is not so.

    A tuple would come back as a list, the key 1 as "1", a subclass of int as an int.
    """
    if not _is_plain(value):
        return None
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        text.encode()
        return text
    except (ValueError, RecursionError):
        return None


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind in (str, int, bool, type(None)):
        return kind is not int or -(2**63) <= value < 2**63
    if kind is float:
        return bool(value - value == 0)  # neither infinite nor not a number
    if kind is list:
        return all(map(_is_plain, value))
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return False
