from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from flowray.ingest.decode import Learned
from flowray.ingest.knowledge import MOST_SEGMENTS, Entry, KnowledgeStore, from_entry, to_entry
from flowray.ingest.options import Topic
from flowray.ingest.templates import TemplateKey
from flowray.state.store import open_store
from flowray.wire.flow.template import VARIABLE, Template, TemplateField
from tests.s3_rig import S3Server

Open: TypeAlias = Callable[..., KnowledgeStore]


def template(number: int = 256, at: int = 1, length: int = 4) -> Entry:
    fields = (TemplateField(8, length), TemplateField(82, VARIABLE), TemplateField(5, 8, 29305))
    key = TemplateKey(7, 3, 10, number)
    return to_entry("192.0.2.1", Learned(key, Template(number, fields, 1), None, at))


def fact(number: int = 1, value: int | bytes = 1000, at: int = 1) -> Entry:
    key = TemplateKey(7, 3, 9, 0)
    return to_entry("192.0.2.1", Learned(key, None, (Topic.SAMPLER, number, value), at))


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Open the store of this test, any number of times."""
    return lambda **options: KnowledgeStore(open_store(tmp_path), "t", **options)


def test_entries_come_back_as_they_were() -> None:
    address, learned = from_entry(template())
    assert address == "192.0.2.1"
    assert learned.key == TemplateKey(0, 3, 10, 256)
    assert learned.template.fields[1] == TemplateField(82, VARIABLE)
    assert learned.template.is_options
    for value in (1000, b"xe-0/0/0\xff"):
        _, learned = from_entry(fact(value=value))
        assert learned.fact == (Topic.SAMPLER, 1, value)
        assert learned.at == 1


def test_news_since_a_generation(opened: Open) -> None:
    store = opened()
    store.publish([template(256), fact(1)])
    epoch, generation, news = store.since("", 0)
    assert news == [template(256), fact(1)]
    assert store.since(epoch, generation) == (epoch, generation, [])
    store.publish([template(257), template(256)])
    assert store.since(epoch, generation)[2] == [template(257)]


def test_the_later_told_replaces_the_earlier(opened: Open) -> None:
    store = opened()
    store.publish([template(at=5, length=8)])
    store.publish([template(at=3, length=4)])
    assert store.entries() == [template(at=5, length=8)]
    store.publish([template(at=6, length=2)])
    assert store.entries() == [template(at=6, length=2)]


def test_a_store_that_came_back_knows_all_and_says_so(opened: Open) -> None:
    times = iter([1, 2])
    store = opened(clock=lambda: next(times))
    store.publish([template(256), fact(1)])
    known = store.since("", 0)[:2]
    back = opened(clock=lambda: next(times))
    assert back.since(*known)[2] == [template(256), fact(1)]
    assert back.since(*known)[0] != known[0]


def test_a_torn_last_line_is_left_out(tmp_path: Path, opened: Open) -> None:
    store = opened()
    store.publish([template(256), template(257)])
    (path,) = (tmp_path / "t").iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    back = opened()
    assert back.entries() == [template(256)]
    back.publish([template(258)])
    assert opened().entries() == [template(256), template(258)]


def test_the_store_is_bounded(opened: Open) -> None:
    store = opened(limit=10)
    store.publish([fact(i) for i in range(50)])
    assert len(store) == 10
    assert store.refused == 40
    store.publish([fact(3, value=7, at=9)])
    assert fact(3, value=7, at=9) in store.entries()


def test_the_file_does_not_grow_with_repetition(tmp_path: Path, opened: Open) -> None:
    store = opened()
    for at in range(300):
        store.publish([fact(at=at)])
    files = [*tmp_path.glob("t.jsonl"), *tmp_path.glob("t/*")]
    assert len(files) <= MOST_SEGMENTS + 1
    assert sum(file.stat().st_size for file in files) < 200 * 120
    assert opened().entries() == [fact(at=299)]


def test_while_the_store_is_away_news_are_handed_out_and_stored_later(
    s3: S3Server, tmp_path: Path
) -> None:
    if not s3.durable:
        pytest.skip("moto's server forgets; scripts/services install builds versitygw where Go is")
    now = [1]
    place = open_store(s3.uri(tmp_path.name))
    store = KnowledgeStore(place, clock=lambda: now[0])
    store.publish([template(256)])
    s3.kill()
    epoch, generation, _ = store.since("", 0)
    store.publish([template(257)])
    assert (store.pending, store.errors) == (1, 1)
    store.publish([fact(1)])  # not tried at once
    assert (store.pending, store.errors) == (2, 1)
    assert store.since(epoch, generation)[2] == [template(257), fact(1)]
    now[0] += 60_000_000_000
    store.store_pending()
    assert store.errors == 2
    s3.start()
    now[0] += 60_000_000_000
    store.store_pending()
    assert store.pending == 0
    assert KnowledgeStore(place).entries() == [template(256), template(257), fact(1)]
