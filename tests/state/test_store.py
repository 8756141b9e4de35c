"""What a state store promises, on the local disk and on a real S3 server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from flowray.errors import ConfigError
from flowray.settings.load import parse_settings
from flowray.state.store import ObjectStore, Store, open_store, patiently
from flowray.views.checkpoint import Checkpoint, CheckpointError
from tests.s3_rig import S3Server

Opened = Callable[[str], Store]


@pytest.fixture(params=["local", "s3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Open a store by the name of its folder."""
    if request.param == "local":
        return lambda folder: open_store(tmp_path / folder)
    server: S3Server = request.getfixturevalue("s3")
    return lambda folder: open_store(server.uri(f"{tmp_path.name}/{folder}"))


def test_an_object_is_what_was_put_last(opened: Opened) -> None:
    store = opened("a")
    assert store.read("deep/one") is None
    store.replace("deep/one", b"1")
    store.replace("deep/one", b"22")
    store.replace("empty", b"")
    assert store.read("deep/one") == b"22"
    assert opened("a").read("empty") == b""
    assert opened("b").read("empty") is None


def test_names_by_prefix(opened: Opened) -> None:
    store = opened("a")
    assert store.names() == []
    assert store.names("none/") == []
    for name in ("one", "two/b", "two/a", "two/deep/c", "twofold"):
        store.replace(name, b"x")
    assert store.names() == ["one", "two/a", "two/b", "two/deep/c", "twofold"]
    assert store.names("two") == ["two/a", "two/b", "two/deep/c", "twofold"]
    assert store.names("two/") == ["two/a", "two/b", "two/deep/c"]
    assert store.names("two/d") == ["two/deep/c"]


def test_what_is_deleted_is_gone(opened: Opened) -> None:
    store = opened("a")
    store.replace("x/one", b"x")
    store.delete("x/one")
    store.delete("x/one")
    store.delete("never")
    assert store.read("x/one") is None
    assert store.names() == []


def test_a_copy_does_not_follow_its_source(opened: Opened) -> None:
    store = opened("a")
    store.replace("one", b"old")
    store.copy("one", "kept/one")
    store.copy("one", "kept/one")
    store.replace("one", b"new")
    assert (store.read("kept/one"), store.read("one")) == (b"old", b"new")
    with pytest.raises(OSError):
        store.copy("none", "kept/none")


def test_a_reader_never_sees_half_of_it(opened: Opened) -> None:
    store, other = opened("a"), opened("a")
    contents = {bytes([i]) * 300_000 for i in range(8)}
    store.replace("one", min(contents))
    done = threading.Event()

    def write() -> None:
        for content in contents:
            store.replace("one", content)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        # A gateway over a file system may mix the checksums of two versions, which is told.
        with suppress(OSError):
            assert other.read("one") in contents
        assert other.names() == ["one"]
    writer.join()


def test_a_checkpoint_in_a_store(opened: Opened) -> None:
    checkpoint = Checkpoint(opened("a"), "checkpoints/v-0.checkpoint")
    assert checkpoint.load() is None
    checkpoint.store(({"n": 2}, {}))
    assert checkpoint.load() == ({"n": 2}, {})
    opened("a").replace(checkpoint.name, b"rubbish")
    with pytest.raises(CheckpointError):
        checkpoint.load()
    assert checkpoint.set_aside().endswith("checkpoints/v-0.unusable")
    assert opened("a").names() == ["checkpoints/v-0.unusable"]


def test_a_server_that_dies_and_comes_back(s3: S3Server) -> None:
    if not s3.durable:
        pytest.skip("moto's server forgets; scripts/services install builds versitygw where Go is")
    store = open_store(s3.uri("away"))
    store.replace("one", b"1")
    s3.kill()
    for work in (
        lambda: store.read("one"),
        lambda: store.replace("one", b"2"),
        store.names,
        lambda: store.delete("one"),
    ):
        with pytest.raises(OSError):
            work()
    told: list[str] = []
    returned = threading.Timer(0.0, s3.start)

    def sleep(seconds: float) -> None:
        if not returned.ident:
            returned.start()
        returned.join()

    found = patiently("test", lambda: store.read("one"), tell=told.append, sleep=sleep)
    assert found == b"1"
    assert told[0].startswith("test: waiting for the state store: ")
    store.replace("one", b"2")
    assert store.read("one") == b"2"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("ftp://host/x", "allowed a local directory, or a bucket or host after s3://, gs://"),
        ("s3:///prefix", "allowed a local directory, or a bucket or host after s3://"),
        ("s3://bucket/x?regoin=x", "allowed of the options of s3:// region=..."),
        ("", "allowed a local directory, or a URI such as s3://bucket/prefix?region=eu-west-1"),
        (7, "allowed a local directory, or a URI such as s3://bucket/prefix?region=eu-west-1"),
    ],
)
def test_a_path_that_cannot_be_right_is_told_in_one_line(path: object, told: str) -> None:
    content = {"views": [{"name": "v", "keys": ["proto"]}], "state": {"path": path}}
    with pytest.raises(ConfigError) as error:
        parse_settings(content, "f.yaml")
    assert str(error.value).startswith("f.yaml: state.path: found ")
    assert told in str(error.value)


def test_credentials_are_not_shown() -> None:
    store = ObjectStore("s3://key:secret@bucket/prefix?region=x")
    assert str(store) == "s3://bucket/prefix"
