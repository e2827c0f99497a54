"""The URLs of stage_in_url and stage_out_url."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from balsam.errors import InvalidInput, nearest

SCHEMES = ("local", "file", "scp", "sftp", "rsync", "http", "https", "s3", "globus")
_NEXT = re.compile(rf"\s+(?=['\"]?(?:{'|'.join(SCHEMES)}):)")
#: No host or user may look like an option of ssh.
_HOST = re.compile(r"(?:[^@\s:/\[\]-][^@\s:/\[\]]*@)?(?:[\w.][\w.-]*|\[[0-9A-Fa-f:.%]+\])")
_REMOTE = re.compile(rf"({_HOST.pattern}):(.*)", re.DOTALL)
_GLOB = re.compile(r"[*?\[]")


class Url(NamedTuple):
    """Where files come from or go to."""

    text: str  #: as it was given
    scheme: str  #: local, sftp (also for scp), rsync, http (also https), s3, globus
    path: str  #: for http the whole URL, for s3 BUCKET/KEY
    host: str = ""  #: [USER@]HOST; '' for what is here; for globus the endpoint
    port: int | None = None
    module: bool = False  #: an rsync daemon's, not one by ssh

    @property
    def machine(self) -> str:
        """What limits of transfers at the same time are for; '' for what is here."""
        if self.scheme == "globus":
            return f"globus:{self.host}"
        return self.host.rpartition("@")[2] or ("" if self.scheme == "local" else self.scheme)

    @property
    def has_pattern(self) -> bool:
        """Whether its path has wildcards."""
        return self.scheme != "http" and bool(_GLOB.search(self.path))


def parse_urls(text: str, values: Mapping[str, str] | None = None) -> list[Url]:
    """Return the URLs of *text*, which have blanks between.

    Each but the first must begin with its scheme, so that a path may have blanks; one with a
    blank and a scheme in it stands in quotation marks.

    Parameters
    ----------
    values
        What stands for ``{name}`` and so on in the URLs; other braces are left alone.

    Raises
    ------
    InvalidInput
        A URL cannot be understood; it is named.
    """
    return [parse_url(_filled(part, values or {})) for part in _parts(text.strip())]


def one_directory(url: Url) -> str:
    """Return the path of a *url* whose matches are all in one directory: none can clash.

    Raises
    ------
    InvalidInput
        It has wildcards before its last name.
    """
    path = url.path.rstrip("/") or "/"
    if _GLOB.search(os.path.dirname(path)):
        raise InvalidInput(f"{url.text}: only the last name of its path may have wildcards")
    return path


def _parts(text: str) -> list[str]:
    parts = []
    while text:
        quoted = re.match(r"""(?:'([^']*)'|"([^"]*)")(?=\s|$)""", text)
        if quoted:
            parts.append(quoted[1] if quoted[1] is not None else quoted[2])
            text = text[quoted.end() :].lstrip()
            continue
        end = _NEXT.search(text)
        parts.append(text[: end.start()] if end else text)
        text = text[end.end() :] if end else ""
    return parts


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)


def parse_url(text: str) -> Url:
    """Return one URL. Raises `InvalidInput`."""
    if "\0" in text:
        raise InvalidInput(f"the URL {text!r} has a zero byte in it")
    scheme, colon, rest = text.partition(":")
    if not colon or "/" in scheme:
        return Url(text, "local", os.path.expanduser(text))
    match scheme:
        case "local":
            return Url(text, "local", os.path.expanduser(rest))
        case "file":
            return Url(text, "local", _file_path(text))
        case "scp" | "sftp":
            return _remote(text, "sftp", rest)
        case "rsync":
            return _remote(text, "rsync", rest)
        case "http" | "https":
            return _web(text)
        case "s3":
            return _bucket(text, rest)
        case "globus":
            return _endpoint(text, rest)
    hint = nearest(scheme, list(SCHEMES))
    raise InvalidInput(
        f"cannot move files by {scheme!r} ({text}); known are {', '.join(SCHEMES)};"
        f" a path with a colon is local:/PATH.{hint}"
    )


def _file_path(text: str) -> str:
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise InvalidInput(f"{text} is no file: URL of this machine; write file:///PATH")
    return _decoded(text, text.partition(":")[2].removeprefix(f"//{parts.netloc}"))


def _decoded(text: str, path: str) -> str:
    decoded = os.fsdecode(unquote(path, errors="surrogateescape"))
    if "\0" in decoded:
        raise InvalidInput(f"the URL {text!r} has a zero byte in it")
    return decoded


def _remote(text: str, scheme: str, rest: str) -> Url:
    """Return the URL of a path on a host that ssh, or an rsync daemon, reaches."""
    if not rest.startswith("//"):
        found = _REMOTE.fullmatch(rest)
        if not found:
            raise InvalidInput(f"{text} names no host and path; write {scheme}:USER@HOST:PATH")
        return Url(text, scheme, _at_home(found[2]), found[1])
    host, slash, path = rest[2:].partition("/")
    host, port = _with_port(text, host)
    if not slash or not _HOST.fullmatch(host):
        raise InvalidInput(f"{text} names no host and path; write {scheme}://USER@HOST:PORT/PATH")
    if scheme == "rsync":
        return Url(text, scheme, _decoded(text, path), host, port, module=True)
    path = _decoded(text, path)
    return Url(text, scheme, _at_home(path) if path.startswith("~/") else f"/{path}", host, port)


def _with_port(text: str, host: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(.*[^:]|.*\]):(\d+)", host)
    if not found:
        return host, None
    port = int(found[2])
    if not 0 < port < 65536:
        raise InvalidInput(f"{text}: there is no port {port}")
    return found[1], port


def _at_home(path: str) -> str:
    """Return a path as ssh's programs take it: without ~, from the home directory."""
    return path.removeprefix("~/").removeprefix("~") or "."


def _web(text: str) -> Url:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(f"{text} is no URL: {error}") from error
    if not host:
        raise InvalidInput(f"{text} names no host; write {parts.scheme}://HOST/PATH")
    return Url(text, "http", text, f"{host}:{port}" if port else host)


def _endpoint(text: str, rest: str) -> Url:
    found = re.fullmatch(r"//([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(/.*)", rest)
    if not found or "\n" in rest:
        raise InvalidInput(f"{text} names no endpoint and path; write globus://ENDPOINT-UUID/PATH")
    if _GLOB.search(found[2]):
        raise InvalidInput(f"{text}: Globus knows no wildcards; name a file or a directory")
    return Url(text, "globus", found[2], found[1].lower())


def _bucket(text: str, rest: str) -> Url:
    bucket, _, key = rest.removeprefix("//").partition("/")
    if not rest.startswith("//") or not bucket or _GLOB.search(bucket):
        raise InvalidInput(f"{text} names no bucket; write s3://BUCKET/KEY")
    return Url(text, "s3", f"{bucket}/{key}" if key else bucket)
