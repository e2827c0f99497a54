"""Profiles: what is known of a machine and cannot be read from it, as data.

Workers import this on every node at once: it imports little.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from balsam.errors import InvalidInput, nearest
from balsam.model.cpus import cpu_numbers

DIRECTORY = os.path.join(os.path.dirname(__file__), "profiles")


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to know the machine: all that is given must fit. Patterns have '*', '?' and '[…]'."""

    #: Of the host's name.
    host: str = ""
    #: Of environment variables.
    environ: dict[str, str] = {}


class Gpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One GPU of each node."""

    #: As the vendor's variable takes it: CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES or
    #: ZE_AFFINITY_MASK.
    device: str
    #: CPUs nearest to it, such as "0-7,64-71".
    cpus: str = ""


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of node of one machine."""

    name: str
    description: str = ""
    #: Where the facts are from.
    sources: tuple[str, ...] = ()
    #: Any of these tells that we are there; of several profiles, the one that asks for more.
    match: tuple[Match, ...] = ()
    #: CPUs, such as "0,8", whose cores are the system's: jobs do not get them.
    reserved_cpus: str = ""
    #: nvidia, amd or intel.
    gpu_vendor: str = ""
    #: In the order in which they are given to jobs; () where the nodes tell all that is needed.
    gpus: tuple[Gpu, ...] = ()
    #: Name in the table of MPI start commands.
    mpi: str = "auto"
    #: Further words for every MPI start.
    mpi_flags: str = ""
    #: Binding of ranks, for jobs that ask for none; see the field cpu_affinity of jobs.
    cpu_affinity: str = ""
    #: What starts the workers, as in the setting nodes.start.
    start: str = "auto"
    #: The first host of an allocation runs only the batch script.
    batch_host_apart: bool = False

    def check(self) -> None:
        """Raise `InvalidInput` when something in it cannot be."""
        cpu_numbers(self.reserved_cpus)
        for gpu in self.gpus:
            cpu_numbers(gpu.cpus)
        vendors = ["nvidia", "amd", "intel"]
        if (self.gpu_vendor or self.gpus) and self.gpu_vendor not in vendors:
            raise InvalidInput(
                f"gpu_vendor is {self.gpu_vendor!r}; give {', '.join(vendors)}."
                f"{nearest(self.gpu_vendor, vendors)}"
            )
        if any(not way.host and not way.environ for way in self.match):
            raise InvalidInput("a [[match]] without host and environ would fit every machine")


def names() -> list[str]:
    """Return the names of the profiles that come with Balsam."""
    files = os.listdir(DIRECTORY)
    return sorted(file.removesuffix(".toml") for file in files if file.endswith(".toml"))


def choose(setting: str, environ: Mapping[str, str], host: str) -> Profile | None:
    """Return the profile that the setting nodes.profile means.

    Raises
    ------
    InvalidInput
        There is none of this name, or its file cannot be taken.
    """
    if setting == "none":
        return None
    return match(environ, host) if setting == "auto" else load(setting)


def load(name: str) -> Profile:
    """Return the profile *name*, or that in the TOML file *name* (with a '/' or ending .toml).

    Raises
    ------
    InvalidInput
        There is none of this name; or the file cannot be read, or has an unknown key or a wrong
        value.
    """
    if "/" in name or name.endswith(".toml"):
        return _read(os.path.expanduser(name))
    known = names()
    if name not in known:
        raise InvalidInput(
            f"there is no profile {name!r}; known are {', '.join(known)}, and paths of TOML files."
            f"{nearest(name, known)}"
        )
    return _read(os.path.join(DIRECTORY, f"{name}.toml"))


def match(environ: Mapping[str, str], host: str) -> Profile | None:
    """Return the profile of the machine with this environment and host name, or None.

    Of several that fit, the one whose match asks for most.
    """
    best, most = None, 0
    for profile in map(load, names()):
        for way in profile.match:
            asked = len(way.environ) + bool(way.host)
            if asked > most and _fits(way, environ, host):
                best, most = profile, asked
    return best


def _fits(way: Match, environ: Mapping[str, str], host: str) -> bool:
    from fnmatch import fnmatchcase

    return (not way.host or fnmatchcase(host, way.host)) and all(
        fnmatchcase(environ.get(name, ""), pattern) for name, pattern in way.environ.items()
    )


def _read(file: str) -> Profile:
    import tomllib

    try:
        with open(file, "rb") as opened:
            table = tomllib.load(opened)
    except OSError as error:
        raise InvalidInput(f"cannot read the profile {file}: {error.strerror}") from error
    except ValueError as error:  # also text that is not UTF-8
        raise InvalidInput(f"cannot read the profile {file}: {error}") from error
    _check_keys(table, Profile, file)
    table.setdefault("name", os.path.basename(file).removesuffix(".toml"))
    try:
        profile = msgspec.convert(table, Profile)
        profile.check()
    except (msgspec.ValidationError, InvalidInput) as error:
        raise InvalidInput(f"profile {file}: {error}") from error
    return profile


_INNER: dict[str, type[msgspec.Struct]] = {"match": Match, "gpus": Gpu}


def _check_keys(table: dict[str, Any], record: type[msgspec.Struct], file: str) -> None:
    known = list(record.__struct_fields__)
    for key, value in table.items():
        if key not in known:
            raise InvalidInput(f"profile {file}: there is no key {key!r}.{nearest(key, known)}")
        inner = _INNER.get(key) if record is Profile else None
        if inner and isinstance(value, list):
            for each in value:
                if isinstance(each, dict):
                    _check_keys(each, inner, file)
