"""Input from an object store: a server of S3's interface on this machine."""

import pytest
from conftest import PAIRS, SETTINGS, tables

import batchmine

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed: input from stores is NOT tested from Python")
server = pytest.importorskip("moto.server", reason="moto is not installed: input from stores is NOT tested from Python")


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of a server of its own."""
    serving = server.ThreadedMotoServer(port=0, verbose=False)
    serving.start()
    host, port = serving.get_host_and_port()
    url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    store = boto3.client("s3", endpoint_url=url)
    store.create_bucket(Bucket="lake")
    yield store
    serving.stop()


def test_pairs_in_a_store_are_mined_as_local_ones(bucket, run, tmp_path):
    for path in sorted(PAIRS.glob("*.parquet")) if PAIRS.is_dir() else [PAIRS]:
        bucket.upload_file(str(path), "lake", f"pairs/{path.name}")
    mined = batchmine.mine("s3://lake/pairs/", tmp_path / "run", progress=False, **SETTINGS)
    assert tables(mined.path) == tables(run.path)
    assert batchmine.plan("s3://lake/pairs/", **SETTINGS)["rows"] == batchmine.plan(PAIRS, **SETTINGS)["rows"]
    with pytest.raises(batchmine.InputError, match="s3://lake/none.parquet"):
        batchmine.mine("s3://lake/none.parquet", tmp_path / "none", progress=False, **SETTINGS)
