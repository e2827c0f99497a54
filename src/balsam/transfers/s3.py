"""Transfers with S3 and what speaks like it, by fsspec; keys and region as boto finds them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from balsam.errors import TransferBroken, TransferError
from balsam.transfers.files import aside, failure, files_to_send, name_items
from balsam.transfers.mover import Delivery, Fetch, Means
from balsam.transfers.progress import Progress
from balsam.transfers.urls import Url

#: Bytes of one request.
_PIECE = 16 * 2**20
#: The ETag of an object that was stored in one part, unencrypted, is its MD5.
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


class S3:
    """Moves by S3; see `Mover`. A key that others lie below is a directory."""

    def __init__(self, means: Means) -> None:
        self._timeout = means.settings.timeout_seconds

    def fetch(self, order: Fetch) -> list[str]:
        url, directory, progress = order.url, order.directory, order.progress
        progress.begin()
        with _wrapped(url):
            system = _system(self._timeout)
            wanted = list(_objects(system, url))
            progress.bytes_total = sum(info["size"] for _, info in wanted)
            for name, info in wanted:
                try:
                    _download(system, url, info, directory / name, progress)
                except OSError as error:
                    passed = isinstance(error, FileNotFoundError | PermissionError)
                    if error.errno is None or passed:
                        raise
                    raise failure(error, f"cannot write {url.text} to {directory}") from error
                progress.files += 1
        return sorted({name.partition("/")[0] for name, _ in wanted})

    def deliver(self, order: Delivery) -> list[str]:
        """Store under keys below the URL; an object is there when it is whole."""
        url, progress = order.url, order.progress
        progress.begin()
        files = files_to_send(order.items, url.text)
        progress.bytes_total = sum(file.size for file in files)
        with _wrapped(url):
            system = _system(self._timeout)
            for file in files:
                key = f"{url.path.rstrip('/')}/{file.name}"
                progress.check()
                system.put_file(str(file.source), key)
                stored = system.info(key, refresh=True)["size"]
                if stored != file.size:
                    raise TransferBroken(f"{url.text}: of {file.source} {stored} bytes arrived")
                progress.files += 1
                progress.moved(file.size)
        return [item.name for item in order.items]

    def close(self) -> None: ...


def _objects(system: Any, url: Url) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects, with the names that they get here."""
    path = url.path.rstrip("/")
    literal = not url.has_pattern or system.exists(path)
    found = [path] if literal else sorted(system.glob(path))
    root = os.path.commonpath([os.path.dirname(each) for each in found]) if found else ""
    items = name_items(Path(root), [os.path.relpath(each, root) for each in found])
    seen = 0
    for item in items:
        below = system.find(str(item.source), withdirs=False, detail=True)
        for key, info in sorted(below.items()):
            rest = os.path.relpath(key, item.source)
            if ".." in rest.split("/"):
                raise TransferError(f"{url.text}: the key {key!r} is no name of a file")
            seen += 1
            yield (item.name if rest == "." else f"{item.name}/{rest}"), info
    if not seen:
        raise TransferError(f"nothing matches {url.text}")


def _download(
    system: Any, url: Url, info: dict[str, Any], target: Path, progress: Progress
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    etag, size = str(info.get("ETag", "")), int(info["size"])
    part = aside(target, f"{crc32(f'{etag}{size}'.encode()):08x}")
    with part.open("ab") as file:
        if file.tell() > size:
            file.truncate(0)
        progress.moved(file.tell())
        while (start := file.tell()) < size:
            piece = system.cat_file(info["name"], start=start, end=min(size, start + _PIECE))
            if not piece:
                raise TransferBroken(f"{url.text}: {info['name']} ended after {start} bytes")
            file.write(piece)
            progress.moved(len(piece))
    known = _MD5.fullmatch(etag)
    if known and not info.get("ServerSideEncryption"):
        with part.open("rb") as content:
            if hashlib.file_digest(content, "md5").hexdigest() != known[1]:
                part.unlink()
                raise TransferBroken(f"{url.text}: the MD5 of {info['name']} is another")
    part.replace(target)


def _system(timeout: float) -> Any:
    try:
        import s3fs
    except ImportError as error:
        raise TransferError(
            "s3: URLs need the package s3fs, which is not installed: pip install 'balsam-flow[s3]'"
        ) from error
    seconds = {"connect_timeout": timeout, "read_timeout": timeout}
    return s3fs.S3FileSystem(use_listings_cache=False, config_kwargs=seconds)


@contextmanager
def _wrapped(url: Url) -> Iterator[None]:
    """Make errors of the libraries ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise TransferError(f"{url.text}: there is no {error.filename or error}") from error
    except PermissionError as error:
        raise TransferError(f"{url.text}: {error}") from error
    except OSError as error:
        raise TransferBroken(f"{url.text}: {error}") from error
    except TransferError:
        raise
    except ValueError as error:
        raise TransferError(f"{url.text}: {error}") from error
    except _foreign() as error:
        name = type(error).__name__
        kind = TransferError if "Credentials" in name or "Profile" in name else TransferBroken
        raise kind(f"{url.text}: {error or name}") from error


def _foreign() -> tuple[type[Exception], ...]:
    """Return what the libraries below s3fs raise, which is there when they are."""
    from aiohttp import ClientError
    from botocore import exceptions

    return ClientError, exceptions.ClientError, exceptions.BotoCoreError
