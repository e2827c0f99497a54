"""Django, for scripts that import it because Balsam 0.x was made with it."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec


def settle_django(*, at_once: bool = False) -> None:
    """Give Django settings when the script has imported its database part and nobody gave any.

    With *at_once* also before it has, if Django is installed.

    `django.db.transaction.atomic`, which scripts of 0.x use around what they do with jobs, then
    works, on an empty database in memory. Balsam's own changes are whole without it.
    """
    if "django.db" not in sys.modules and not (at_once and find_spec("django")):
        return
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        return
    import django
    from django.conf import settings

    if not settings.configured:
        memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        settings.configure(DATABASES={"default": memory}, LOGGING_CONFIG=None)
        django.setup(set_prefix=False)


def setup() -> None:
    """Do what programs of 0.x ask for at their start: give Django settings, where it is installed.

    Balsam itself needs no set-up. Calling it again does nothing.
    """
    settle_django(at_once=True)
