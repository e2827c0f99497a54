"""Apps as Python programs hold them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar, cast

import msgspec
from msgspec.structs import asdict

from balsam.client.checks import check_keys
from balsam.client.interface import Client
from balsam.client.queryset import Objects, QuerySet
from balsam.client.site import Site, default_site
from balsam.errors import (
    AlreadyExists,
    InvalidInput,
    MultipleFound,
    NotFound,
    UnknownField,
    nearest,
)
from balsam.model import app as model
from balsam.model import records
from balsam.model.hook import MARK
from balsam.model.query import Query, parse
from balsam.model.retry import rules_of

T = TypeVar("T")
_TYPES = {field.name: field.type for field in records.fields(model.App)}
_DEFAULTS = model.App(name="")
_FIELDS = tuple(_TYPES)
_EDITABLE = _FIELDS[1:]


class Apps(QuerySet[T]):
    """Apps, chosen step by step (see `QuerySet`)."""

    kind = "apps"
    noun = "app"

    def _read(self, client: Client, query: Query, fields: list[str] | None) -> list[model.App]:
        return client.apps(query)

    def _object(self, record: model.App) -> App:
        app = App(**asdict(record))
        app._remember(self.site)
        return app

    def create(self, **fields: Any) -> App:
        """Register an app and return it.

        Raises
        ------
        UnknownField
            An app has no such field.
        AlreadyExists
            There is an app of this name.
        """
        check_names(fields)
        app = App(**{"name": "", **fields})
        app._site = self.site
        app.save()
        return app

    def get_or_create(
        self, defaults: Mapping[str, Any] | None = None, **conditions: Any
    ) -> tuple[App, bool]:
        """Return the app that meets *conditions* and whether it had to be made for that.

        Programs that do this at once with the app's name get the same app.
        """
        fields = {name: value for name, value in conditions.items() if "__" not in name}
        try:
            return cast("App", self.get(**conditions)), False
        except NotFound:
            pass
        try:
            return self.create(**{**fields, **(defaults or {})}), True
        except AlreadyExists:
            return cast("App", self.get(**conditions)), False

    def update(self, **changes: Any) -> int:
        """Set fields of all these apps; return how many. They hold from the next job on."""
        check_names(changes)
        if _has_functions(changes):  # beside what else is in `function` of each
            found: list[Any] = list(self)
            for app in found:
                for name, value in changes.items():
                    setattr(app, name, value)
                app.save()
            return len(found)
        client = self.site.client
        return client.update_apps(self._resolved(client), _values(changes))

    def delete(self) -> int:
        """Remove these apps; return how many. Their jobs stay, and fail when they are to run."""
        if self._all_of_it:
            raise InvalidInput("delete which apps? For all of the site: objects.all().delete()")
        self._kept = None
        client = self.site.client
        return client.delete_apps(self._resolved(client))


class App(model.App, kw_only=True, dict=True, eq=False):
    """A registered program. The fields are those of `balsam.model.app.App`."""

    class DoesNotExist(NotFound):
        """No app matches."""

    class MultipleObjectsReturned(MultipleFound):
        """Several apps match where one was asked for."""

    objects: ClassVar[Objects[Apps[App]]] = Objects(lambda: Apps(all_of_it=True))

    @property
    def site(self) -> Site:
        """Where the app is; for a new one, the default site."""
        site = self.__dict__.get("_site")
        return site if isinstance(site, Site) else default_site()

    @property
    def pk(self) -> int | None:
        """The id."""
        return self.id

    def save(self, update_fields: Iterable[str] | None = None) -> None:
        """Register a new app, or store what was changed in this object since it was loaded.

        Raises
        ------
        AlreadyExists
            There is an app of this name.
        DoesNotExist
            It was removed meanwhile.
        """
        site = self.site
        if self.id is None:
            given = {name: getattr(self, name) for name in _EDITABLE}
            values = _values(_with_functions(given, _DEFAULTS))
            self._take(site.client.add_app(msgspec.convert(values, model.App)))
            self._remember(site)
            return
        if "_stored" not in self.__dict__:
            raise InvalidInput(f"app {self.id} was not loaded; use App.objects.get(id={self.id})")
        wanted = _EDITABLE if update_fields is None else tuple(update_fields)
        check_names(wanted)
        changes = {n: getattr(self, n) for n in wanted if getattr(self, n) != self._stored[n]}
        if changes:
            stored = model.App(**{name: self._stored[name] for name in _FIELDS})
            changes = _values(_with_functions(changes, stored))
            if not site.client.update_apps(self._me, changes):
                raise self.DoesNotExist(f"there is no app {self.name!r}; it was removed")
            for name, value in changes.items():
                setattr(self, name, value)
                self._stored[name] = _frozen(value)

    def refresh_from_db(self) -> None:
        """Load every field anew. Raises `DoesNotExist` when the app was removed."""
        for record in self.site.client.apps(self._me):
            self._take(record)
            self._remember(self.site)
            return
        raise self.DoesNotExist(f"there is no app {self.name!r}; it was removed")

    def delete(self) -> None:
        """Remove the app. Its jobs stay, and fail when they are to run."""
        self.site.client.delete_apps(self._me)

    def _take(self, record: model.App) -> None:
        for name in _FIELDS:
            setattr(self, name, getattr(record, name))

    def _remember(self, site: Site) -> None:
        self._site = site
        self._stored: dict[str, Any] = {name: _frozen(getattr(self, name)) for name in _FIELDS}

    @property
    def _me(self) -> Query:
        if self.id is None:
            raise InvalidInput(f"app {self.name!r} is not registered yet; save it first")
        return Query(filters=parse({"id": self.id}, "apps"))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _FIELDS and not name.startswith("_"):
            raise UnknownField(f"an app has no field {name!r}.{nearest(name, list(_EDITABLE))}")
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        same = isinstance(other, App) and self.id is not None and self.id == other.id
        return same and self.site == cast("App", other).site

    def __hash__(self) -> int:
        return id(self) if self.id is None else hash(self.id)

    def __repr__(self) -> str:
        return f"<App {self.id} {self.name!r}>"


Apps.missing = App.DoesNotExist
Apps.several = App.MultipleObjectsReturned


def check_names(names: Iterable[str]) -> None:
    """Raise `UnknownField` unless all of *names* are fields of an app that users may set."""
    for name in names:
        if name not in _EDITABLE:
            raise UnknownField(f"an app has no field {name!r}.{nearest(name, list(_EDITABLE))}")


def _has_functions(fields: Mapping[str, Any]) -> bool:
    """Tell whether *fields* of an app have hooks that are Python functions."""
    hooks = [fields.get(name) for name in model.HOOKS.values()]
    return any(callable(hook) or str(hook).startswith(MARK) for hook in hooks)


def _with_functions(fields: Mapping[str, Any], before: model.App) -> Mapping[str, Any]:
    """Return changed *fields* of an app with texts for functions, and with their code."""
    if not _has_functions(fields) and not before.function.functions:
        return fields
    from balsam.callables.hooks import with_functions

    return with_functions(fields, before)


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return *fields* as the store takes them: None is the default."""
    return {
        name: getattr(_DEFAULTS, name) if value is None else _value(name, value)
        for name, value in fields.items()
    }


def _value(name: str, value: Any) -> Any:
    if name == "retry":
        return rules_of(value)
    if _TYPES[name] is str:
        text = os.fspath(value) if _is_path(value) else value
        if not isinstance(text, str):
            raise InvalidInput(f"{name} takes a text, not {value!r}")
        return text
    try:
        plain = msgspec.to_builtins(value)
        check_keys(name, plain)
        return msgspec.convert(plain, _TYPES[name])
    except (TypeError, msgspec.ValidationError) as error:
        raise InvalidInput(f"{name} cannot be {value!r}: {error}") from error


def _frozen(value: Any) -> Any:
    """Return *value* so that later changes inside it show by comparison."""
    return list(value) if isinstance(value, list) else value


def _is_path(value: object) -> bool:
    return isinstance(value, os.PathLike)
