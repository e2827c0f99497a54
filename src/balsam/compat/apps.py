"""`ApplicationDefinition`: an app under the names of 0.x."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

from balsam.client.apps import App, Apps
from balsam.client.queryset import Objects
from balsam.compat.exceptions import NoSuchApp, SeveralApps
from balsam.compat.fields import Field, View, hook, text
from balsam.compat.rows import OldNames
from balsam.model import app as model

T = TypeVar("T")


class RealApp(App, kw_only=True, dict=True, eq=False):
    """An app whose errors are those that scripts of 0.x catch."""

    DoesNotExist = NoSuchApp
    MultipleObjectsReturned = SeveralApps


class Applications(OldNames[T], Apps[T]):
    """Applications, chosen step by step by the names of 0.x (see `QuerySet`)."""

    missing = NoSuchApp
    several = SeveralApps
    label = "core.ApplicationDefinition"

    @classmethod
    def view(cls) -> type[View]:
        return ApplicationDefinition

    def _object(self, record: model.App) -> Any:
        real = RealApp(**{name: getattr(record, name) for name in record.__struct_fields__})
        real._remember(self.site)
        return ApplicationDefinition.of(real)


class ApplicationDefinition(View):
    """A registered program: an `App` under its 0.x names.

    New ones are registered by `save`. Any other attribute may be set, and is not stored.

    Raises
    ------
    UnexpectedField
        A field is given that there is not (also a TypeError).
    """

    DoesNotExist = NoSuchApp
    MultipleObjectsReturned = SeveralApps
    objects: ClassVar[Objects[Applications[ApplicationDefinition]]] = Objects(
        lambda: Applications(all_of_it=True)
    )
    FURTHER = ()

    id = Field()
    name = Field(write=text)
    description = Field(write=text)
    executable = Field(write=text)
    preprocess = Field(write=hook)
    postprocess = Field(write=hook)
    envscript = Field(write=text)

    def __init__(self, **fields: Any) -> None:
        self._real = RealApp(name="")
        self._set(fields)

    @property
    def pk(self) -> int | None:
        """The id."""
        number: int | None = self._real.id
        return number

    def save(self, *_: Any, update_fields: Iterable[str] | None = None, **__: Any) -> None:
        """Register a new app, or store what was changed in this object since it was loaded.

        Raises
        ------
        AlreadyExists
            There is an app of this name.
        DoesNotExist
            It was removed meanwhile.
        """
        wanted = None
        if update_fields is not None:
            self.check_names(update_fields)
            wanted = [self.FIELDS[name].real for name in update_fields]
        self._real.save(wanted)

    def refresh_from_db(self, *_: Any, **__: Any) -> None:
        """Load every field anew. Raises `DoesNotExist` when the app was removed."""
        self._real.refresh_from_db()

    def delete(self, *_: Any, **__: Any) -> tuple[int, dict[str, int]]:
        """Remove the app. Its jobs stay, and fail when they are to run."""
        self._real.delete()
        return 1, {Applications.label: 1}
