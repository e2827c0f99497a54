"""URLs of files to be moved."""

from __future__ import annotations

import pytest

from balsam.errors import InvalidInput
from balsam.transfers.urls import parse_url, parse_urls

UUID = "ddb59aef-6d04-11e5-ba46-22000b92c6ec"
GOOD = {
    "/a/b c": ("local", "/a/b c", "", None),
    "relative/x:y": ("local", "relative/x:y", "", None),
    "local:/a:b/*.dat": ("local", "/a:b/*.dat", "", None),
    "local:a%20b": ("local", "a%20b", "", None),
    "file:///a%20b": ("local", "/a b", "", None),
    "file:/a": ("local", "/a", "", None),
    "file://localhost/a?b#c": ("local", "/a?b#c", "", None),
    "scp:me@far.org:/a b:c/x": ("sftp", "/a b:c/x", "me@far.org", None),
    "scp:far:x%20y": ("sftp", "x%20y", "far", None),
    "scp:far:~/x": ("sftp", "x", "far", None),
    "scp:far:": ("sftp", ".", "far", None),
    "sftp://me@far:2222/a%20b": ("sftp", "/a b", "me@far", 2222),
    "sftp://far/~/x": ("sftp", "x", "far", None),
    "scp:[::1]:/x": ("sftp", "/x", "[::1]", None),
    "scp://[::1]:22/x": ("sftp", "/x", "[::1]", 22),
    "rsync:far:/x\ny": ("rsync", "/x\ny", "far", None),
    "rsync://far:873/module/x": ("rsync", "module/x", "far", 873),
    "http://far:80/x?y=*": ("http", "http://far:80/x?y=*", "far:80", None),
    "HTTPS://far/x".lower(): ("http", "https://far/x", "far", None),
    f"globus://{UUID}/~/x/": ("globus", "/~/x/", UUID, None),
    "s3://bucket/key/*.h5": ("s3", "bucket/key/*.h5", "", None),
}


@pytest.mark.parametrize("text", GOOD)
def test_what_a_url_means(text: str) -> None:
    url = parse_url(text)
    assert (url.scheme, url.path, url.host, url.port) == GOOD[text]
    assert url.text == text


@pytest.mark.parametrize(
    "text",
    [
        "gopher://x/y",
        "scp:/no/host",
        "scp:-oProxyCommand=touch x:/y",
        "scp:-l@far:/y",
        "sftp://-oProxyCommand=x/y",
        "scp:a b:/x",
        "rsync:far$(id):/x",
        "sftp://far:99999/x",
        "http:///x",
        "http://far:port/x",
        "s3:/bucket/x",
        "s3://*/x",
        "file://far/x",
        "file:x",
        "file:///a%00b",
        "local:/a\0b",
        "globus:endpoint:/x",
        "globus://endpoint/x",
        f"globus://{UUID}",
        f"globus://{UUID}/*.h5",
    ],
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_url(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("/a b", ["/a b"]),
        ("/a b http://far/x  s3://b/k", ["/a b", "http://far/x", "s3://b/k"]),
        ("'/a http://x' \"scp:far:/b c\" local:/d", ["/a http://x", "scp:far:/b c", "local:/d"]),
        ("local:/it's here", ["local:/it's here"]),
        ("'unfinished", ["'unfinished"]),
    ],
)
def test_several_urls(text: str, expected: list[str]) -> None:
    assert [url.text for url in parse_urls(text)] == expected


def test_what_stands_for_the_job() -> None:
    values = {"name": "http://x {id}", "id": "7"}
    (url,) = parse_urls("local:/r/{name}/{id}/{other}", values)
    assert url.path == "/r/http://x {id}/7/{other}"
