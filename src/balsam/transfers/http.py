"""Downloads by HTTP, which go on where they were cut off, and uploads with PUT."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote, urlsplit
from zlib import crc32

from balsam.errors import TransferBroken, TransferError
from balsam.transfers.files import File, aside, aside_name, failure, files_to_send
from balsam.transfers.mover import Delivery, Fetch, Means
from balsam.transfers.progress import Progress
from balsam.transfers.urls import Url

if TYPE_CHECKING:
    import httpx

#: Answers that another try may change (RFC 9110, 6585).
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
_PIECE = 2**20


class Http:
    """Moves by HTTP; see `Mover`.

    A part that is there is continued when the server says that it still has the same file.
    """

    def __init__(self, means: Means) -> None:
        self._timeout = means.settings.timeout_seconds

    def fetch(self, order: Fetch) -> list[str]:
        url, directory, progress = order.url, order.directory, order.progress
        progress.begin()
        name = _file_name(url)
        with _wrapped(url, progress), _client(self._timeout) as client:
            try:
                part = _unfinished(directory, name)
                if part is None or not _download(client, url, directory / name, part, progress):
                    _download(client, url, directory / name, None, progress)
            except OSError as error:
                raise failure(error, f"cannot write {url.text} to {directory}") from error
        progress.files += 1
        return [name]

    def deliver(self, order: Delivery) -> list[str]:
        url, progress = order.url, order.progress
        progress.begin()
        files = files_to_send(order.items, url.text)
        progress.bytes_total = sum(file.size for file in files)
        with _wrapped(url, progress), _client(self._timeout) as client:
            for file in files:
                _upload(client, url, file, progress)
        return [item.name for item in order.items]

    def close(self) -> None: ...


def _file_name(url: Url) -> str:
    name = os.fsdecode(
        unquote(urlsplit(url.path).path.rpartition("/")[2], errors="surrogateescape")
    )
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise TransferError(f"{url.text} does not end with the name of a file")
    return name


def _unfinished(directory: Path, name: str) -> Path | None:
    """Return the part of *name* that an earlier try left, if it did."""
    beginning, end = aside_name(name, "|").split("|")
    for entry in os.listdir(directory):
        if entry.startswith(beginning) and entry.endswith(end):
            return directory / entry
    return None


def _download(
    client: httpx.Client, url: Url, target: Path, part: Path | None, progress: Progress
) -> bool:
    """Load a file, or what is missing of its *part*; tell whether that could be continued."""
    offset = part.stat().st_size if part else 0
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with client.stream("GET", url.path, headers=headers) as answer:
        new = aside(target, _version(answer))
        if part and not _keeps(answer, part, new, offset):
            part.unlink()
            if answer.status_code != 200:
                return False
        _check(answer, url)
        offset = offset if answer.status_code == 206 else 0
        total = _total(answer, offset)
        progress.bytes_done, progress.bytes_total = offset, total
        ending = progress.ended_by(lambda: _cut(answer))
        with ending, new.open("ab" if offset else "wb") as file:
            for piece in answer.iter_raw():
                file.write(piece)
                progress.moved(len(piece))
    size = new.stat().st_size
    if total is not None and size != total:
        if size > total:
            new.unlink()
        raise TransferBroken(f"{url.text} ended after {size} of {total} bytes")
    _check_digest(answer, url, new)
    new.replace(target)
    return True


def _cut(answer: httpx.Response) -> None:
    """Wake the thread that waits for more of the answer."""
    connection = answer.extensions["network_stream"].get_extra_info("socket")
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was faster


def _version(answer: httpx.Response) -> str:
    """Return what changes when the file does, for its part's name."""
    tag = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
    return f"{crc32(repr(tag).encode()):08x}"


def _keeps(answer: httpx.Response, part: Path, new: Path, offset: int) -> bool:
    """Tell whether a *part* is of use: the answer is its rest, or none at all for now."""
    if answer.status_code != 206:
        return answer.status_code not in (200, 416)
    known = "ETag" in answer.headers or "Last-Modified" in answer.headers
    rest = answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
    return known and rest and part == new


def _total(answer: httpx.Response, offset: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return offset + int(length) if length.isdecimal() else None


def _check(answer: httpx.Response, url: Url) -> None:
    code = answer.status_code
    if answer.is_success:
        return
    kind = TransferBroken if code in _PASSING else TransferError
    raise kind(f"{url.text}: the server answers {code} {answer.reason_phrase}".rstrip())


def _check_digest(answer: httpx.Response, url: Url, file: Path) -> None:
    """Compare *file* with the digest that the server told of the whole, if it did."""
    for algorithm, wanted in _digests(answer):
        with file.open("rb") as content:
            found = hashlib.file_digest(content, algorithm).digest()
        if base64.b64encode(found).decode() != wanted:
            file.unlink()
            raise TransferBroken(f"{url.text}: the {algorithm} is not what the server says")


def _digests(answer: httpx.Response) -> Iterator[tuple[str, str]]:
    """Yield the digests of RFC 9530 (Repr-Digest), RFC 3230 (Digest), RFC 1864 (Content-MD5)."""
    if answer.status_code == 200 and "Content-MD5" in answer.headers:
        yield "md5", answer.headers["Content-MD5"].strip()
    for header, names in (
        ("Repr-Digest", {"sha-256": "sha256", "sha-512": "sha512"}),
        ("Digest", {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5"}),
    ):
        for item in answer.headers.get(header, "").split(","):
            name, _, value = item.strip().partition("=")
            if name.lower() in names and value:
                yield names[name.lower()], value.strip(":")


def _upload(client: httpx.Client, url: Url, file: File, progress: Progress) -> None:
    target = f"{url.path.rstrip('/')}/{quote(os.fsencode(file.name))}"
    try:
        with file.source.open("rb") as content:
            headers = {"Content-Length": str(file.size)}
            answer = client.put(target, content=_pieces(content, progress), headers=headers)
    except OSError as error:
        raise failure(error, f"cannot read {file.source}") from error
    _check(answer, Url(target, "http", target))
    progress.files += 1


def _pieces(content: BinaryIO, progress: Progress) -> Iterator[bytes]:
    while piece := content.read(_PIECE):
        yield piece
        progress.moved(len(piece))


def _client(timeout: float) -> httpx.Client:
    import httpx

    from balsam import __version__

    # What is on the way must be the file itself, or its length and parts would mean nothing.
    headers = {"Accept-Encoding": "identity", "User-Agent": f"balsam/{__version__}"}
    return httpx.Client(timeout=timeout, follow_redirects=True, headers=headers)


class _wrapped:
    """Makes errors of the library ours."""

    def __init__(self, url: Url, progress: Progress) -> None:
        self._url, self._progress = url, progress

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import httpx

        if error is not None:
            self._progress.check()  # it broke off because it was to end
        text = f"{self._url.text}: {error or type(error).__name__}"
        if isinstance(error, httpx.TransportError) and not isinstance(
            error, httpx.UnsupportedProtocol
        ):
            raise TransferBroken(text) from error
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL | httpx.StreamError):
            raise TransferError(text) from error
