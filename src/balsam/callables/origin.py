"""Where a function is from: its name, whether others can import it, and from which directories."""

from __future__ import annotations

import os
import site as interpreter_site
import sys
import sysconfig
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any


def main_name() -> str:
    """Return what the module ``__main__`` is called: its script or module."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name.removesuffix(".__main__"))
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "interactive"


def function_name(function: Any) -> str:
    """Return the name under which *function* is registered: ``module.qualified.name``."""
    kind = function if hasattr(function, "__qualname__") else type(function)
    module = getattr(kind, "__module__", None) or "builtins"
    qualified = kind.__qualname__.replace("<locals>.", "").replace("<lambda>", "lambda")
    return f"{main_name() if module == '__main__' else module}.{qualified}"


def import_path() -> list[str]:
    """Return the directories of ``sys.path`` that the interpreter does not have by itself."""
    own = {os.path.realpath(path) for path in _own_path()}
    found: dict[str, None] = {}
    for entry in sys.path:
        path = os.path.abspath(entry)  # '' is the working directory
        if os.path.realpath(path) not in own and os.path.exists(path):
            found[path] = None
    return list(found)


def _own_path() -> list[str]:
    """Return what the interpreter and its ``.pth`` files put into ``sys.path``."""
    packages = [*sysconfig.get_paths().values(), *interpreter_site.getsitepackages()]
    packages.append(interpreter_site.getusersitepackages())
    standard = sysconfig.get_path("stdlib")
    version = f"{sys.version_info[0]}{sys.version_info[1]}"
    archive = os.path.join(os.path.dirname(standard), f"python{version}.zip")
    dynamic = sysconfig.get_config_var("DESTSHARED") or os.path.join(standard, "lib-dynload")
    lines = [line for package in set(packages) for line in _lines_of_pth(Path(package))]
    return [*packages, archive, dynamic, os.path.join(standard, "lib-dynload"), *lines]


def _lines_of_pth(directory: Path) -> list[str]:
    try:
        files = [file for file in directory.glob("*.pth") if file.is_file()]
        lines = [
            line.strip() for f in files for line in f.read_text("utf-8", "replace").split("\n")
        ]
    except OSError:
        return []
    paths = [line for line in lines if line and not line.startswith(("#", "import"))]
    return [os.path.join(directory, path) for path in paths]


def is_importable(function: Any) -> bool:
    """Tell whether importing the module of *function* finds it under its name."""
    module = getattr(function, "__module__", None)
    found: Any = None if module in (None, "__main__") else sys.modules.get(module)
    for part in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is function


def is_module(name: str, path: Iterable[str]) -> bool:
    """Tell whether there is a module *name* in *path* or here; nothing of it is imported."""
    search: list[str] | None = [*path, *sys.path]
    whole = ""
    for part in name.split("."):
        whole = f"{whole}.{part}" if whole else part
        spec = PathFinder.find_spec(whole, search) if search is not None else None
        if spec is None:
            return name in sys.builtin_module_names
        places = spec.submodule_search_locations
        search = None if places is None else list(places)
    return True
