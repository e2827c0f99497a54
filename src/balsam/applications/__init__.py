"""Apps as classes, as Balsam 0.7 had them: a command or a method, with hooks beside it."""

from __future__ import annotations

from balsam.applications.definition import ApplicationDefinition

__all__ = ["ApplicationDefinition"]
