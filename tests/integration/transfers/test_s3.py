"""S3, spoken by moto's server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from balsam.errors import TransferError
from tests.integration.transfers.conftest import Mover, fill, tree

moto_server = pytest.importorskip("moto.server", reason="pip install 'balsam-flow[test]'")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for variable, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(variable, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem(use_listings_cache=False).mkdir(f"bucket{port}")
    yield f"s3://bucket{port}"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_objects(mover: Mover, bucket: str) -> None:
    names = ["a.dat", "b.dat", "c d#?.txt", "ünï/x", "ünï/deep/y"]
    fill(mover.here, *names)
    (mover.here / "b.dat").write_bytes(bytes(20 * 2**20))
    mover.deliver(f"{bucket}/to", "a.dat", "b.dat", "c d#?.txt", "ünï")
    assert mover.progress.files == 5
    wanted = tree(mover.here)
    mover.here = mover.here.parent / "back"
    mover.here.mkdir()
    assert mover.fetch(f"{bucket}/to/*.dat") == ["a.dat", "b.dat"]
    assert mover.fetch(f"{bucket}/to/c d#?.txt") == ["c d#?.txt"]
    assert mover.fetch(f"{bucket}/to/ünï") == ["ünï"]
    assert tree(mover.here) == wanted


def test_what_is_not_there(mover: Mover, bucket: str) -> None:
    for url in (f"{bucket}/none", f"{bucket}/none*", "s3://no-such-bucket/x"):
        with pytest.raises(TransferError) as caught:
            mover.fetch(url)
        assert not caught.value.retryable
    assert not tree(mover.here)
