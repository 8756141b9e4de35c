"""An exporter that moves to another shard: its data waits until all is known that it told before.

Shards are driven step by step, on a clock and a template store of the test's own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from flowray.generate.encode import flow_set, ipfix_template_set, ipfix_withdrawal_set
from flowray.ingest.delivery import LocalTransport
from flowray.ingest.knowledge import Entry
from flowray.ingest.ledger import problems, totals
from flowray.ingest.settling import NEWS_NS, PATIENCE_NS
from flowray.ingest.shard import Shard
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.views.window import REVISION, WINDOW
from flowray.wire.packets import PacketBatch
from tests.ingest.decoding import EXPORTER, FLOW, V9, Ipfix, data, flow, template

START = 1_760_000_000 * 10**9
MS = 1_000_000
RATE = 1000
OPTIONS = template(300, (149, 4), (34, 4), scopes=1)
SWAPPED = template(256, (12, 4), (8, 4), (11, 2), (7, 2), (4, 1), (1, 4), (2, 4))
"""The id of FLOW with other fields."""


class Store:
    """A template store that answers when the test lets it."""

    def __init__(self) -> None:
        self.all: list[Entry] = []
        self.away = False

    def publish(self, entries: list[Entry]) -> None:
        self.all += entries

    def since(self, epoch: str, generation: int) -> tuple[str, int, list[Entry]]:
        if self.away:
            raise ConnectionError("away")
        return "one", len(self.all), self.all[generation if epoch else 0 :]


class Driven:
    """A shard without threads and sockets."""

    def __init__(self, store: Store, now: list[int], **decode: Any) -> None:
        content = {
            "decode": decode,
            "views": [{"name": "v", "keys": ["src_host"], "window": "1s"}],
        }
        program = compile_settings(parse_settings(content, "test"), "test")
        self.now = now
        self.shard = Shard(program, "s", LocalTransport(()), store, clock=lambda: now[0])
        self.collector = self.shard._collector
        self.rows: list[dict[str, Any]] = []

    def feed(self, *payloads: bytes) -> None:
        length = np.array([len(p) for p in payloads], np.int64)
        exporter = self.collector.exporters.intern_one(EXPORTER)
        self.collector.feed(
            PacketBatch(
                np.frombuffer(b"".join(payloads), np.uint8).copy(),
                np.cumsum(length) - length,
                length,
                np.full(len(payloads), exporter, np.uint32),
                np.full(len(payloads), self.now[0], np.int64),
            )
        )
        self.turn()

    def publish(self) -> None:
        self.shard._share()
        self.shard._publish_all()

    def pull(self) -> None:
        self.shard._pull()
        self.turn()

    def turn(self) -> None:
        self.shard._install()
        self.shard._settle()

    def hand_over(self) -> int:
        """Keep the rows of the open partial; its watermark."""
        (partial,) = self.collector.hand_over(self.now[0])
        if partial.table is not None:
            self.rows += partial.table.to_pylist()
        return partial.watermark

    def accounts(self) -> dict[str, int]:
        """Totals; the ledger balances."""
        snapshot = self.collector.snapshot()
        still = {"v": snapshot["views"].get("v", {}).get("aggregated", 0)}
        assert problems(snapshot, held=self.collector.sets_held, open_records=still) == []
        return totals(snapshot)

    @property
    def packets(self) -> list[int]:
        self.hand_over()
        return [row["packets"] for row in self.rows]


@pytest.fixture
def now() -> list[int]:
    """The time, ns."""
    return [START]


@pytest.fixture
def store() -> Store:
    return Store()


def moved(store: Store, now: list[int], **decode: Any) -> tuple[Ipfix, Driven, Driven]:
    """An exporter whose templates are in the store, but whose rate another shard has not published
    yet; that shard, and the one that now hears the exporter.
    """
    x = Ipfix()
    old, new = Driven(store, now, **decode), Driven(store, now, **decode)
    old.feed(x.tell(FLOW, OPTIONS))
    old.publish()
    old.feed(x.message(data(OPTIONS, (0, RATE)), records=1))
    new.pull()
    return x, old, new


def flows(x: Ipfix, *records: Sequence[Any]) -> bytes:
    return x.message(data(FLOW, *records), records=len(records))


def test_data_waits_for_a_rate_that_another_shard_was_told(store: Store, now: list[int]) -> None:
    x, old, new = moved(store, now)
    now[0] += 100 * MS
    heard = now[0]
    new.feed(flows(x, flow(packets=2)), flows(x, flow(packets=3)))
    now[0] += 800 * MS
    new.pull()
    old.publish()
    assert new.hand_over() == heard
    assert new.rows == []
    now[0] = heard + NEWS_NS - 1
    assert not new.collector.wants_pull(now[0])
    now[0] = heard + NEWS_NS
    new.turn()
    assert new.shard._ask_now.is_set()
    new.pull()
    assert new.packets == [5 * RATE]
    assert new.rows[0][WINDOW] == heard // 10**9 * 10**9
    assert new.rows[0][REVISION] == 0
    assert new.hand_over() == now[0]
    accounts = new.accounts()
    assert accounts["sets_held"] == accounts["sets_held_decoded"] == 2
    assert "sets_unsettled" not in accounts
    assert "sequence_gap" not in accounts
    new.feed(flows(x, flow(packets=1)))
    assert new.packets == [5 * RATE, RATE]


def test_a_pull_that_began_too_early_settles_nothing(store: Store, now: list[int]) -> None:
    x, old, new = moved(store, now)
    new.feed(flows(x, flow(packets=2)))
    now[0] += NEWS_NS - 1
    new.shard._pull()  # under way while the old shard publishes
    old.publish()
    now[0] += 1
    new.turn()
    assert new.packets == []
    new.pull()
    assert new.packets == [2 * RATE]
    new.accounts()


def test_the_wait_ends_when_the_store_is_away(store: Store, now: list[int]) -> None:
    x, _, new = moved(store, now)
    heard = now[0]
    new.feed(flows(x, flow(packets=2)))
    store.away = True
    now[0] = heard + PATIENCE_NS - 1
    with pytest.raises(ConnectionError):
        new.pull()
    new.turn()
    assert new.packets == []
    now[0] = heard + PATIENCE_NS
    new.turn()
    assert new.packets == [2]
    assert new.rows[0][REVISION] == 0
    assert new.hand_over() == now[0]
    accounts = new.accounts()
    assert accounts["sets_unsettled"] == accounts["sets_held_decoded"] == 1


def test_data_that_got_its_template_from_another_shard_waits_for_the_rate(
    store: Store, now: list[int]
) -> None:
    x = Ipfix()
    old, new = Driven(store, now), Driven(store, now)
    tell = x.tell(FLOW, OPTIONS)
    x.sequence = 7
    new.feed(flows(x, flow(packets=2)))
    heard = now[0]
    now[0] += 10 * NEWS_NS
    new.pull()
    old.feed(tell)
    old.publish()
    now[0] += MS
    told = now[0]
    new.pull()
    assert new.packets == []
    assert new.collector.waiting() == []
    old.feed(x.message(data(OPTIONS, (0, RATE)), records=1))
    old.publish()
    now[0] += NEWS_NS
    assert new.hand_over() == told
    new.pull()
    assert new.packets == [2 * RATE]
    assert new.rows[0][WINDOW] == heard // 10**9 * 10**9
    assert new.rows[0][REVISION] == 10  # late by the time that it was held for its template
    assert new.accounts()["sets_held_decoded"] == 1


def test_news_for_ever_does_not_hold_data_for_ever(store: Store, now: list[int]) -> None:
    x = Ipfix(sequence=1)
    new = Driven(store, now)
    heard = now[0]
    for n in range(300, 310):
        new.feed(x.message(data(template(n, *FLOW.fields), flow(packets=1)), records=1))
    for n in range(300, 310):
        assert new.packets == []
        old = Driven(store, now)
        old.feed(Ipfix().tell(template(n, *FLOW.fields)))
        old.publish()
        new.pull()
        now[0] += PATIENCE_NS // 10
        assert new.hand_over() <= now[0]
    assert now[0] == heard + PATIENCE_NS
    new.turn()
    assert sum(new.packets) == 10
    assert new.hand_over() == now[0]
    assert new.accounts()["sets_unsettled"] == 10


def test_an_exporter_that_begins_here_waits_for_nothing(store: Store, now: list[int]) -> None:
    x, v9 = Ipfix(), V9(domain=1)
    shard = Driven(store, now)
    shard.feed(x.tell(FLOW, OPTIONS), x.send(OPTIONS, (0, RATE)), flows(x, flow(packets=2)))
    shard.feed(v9.send(FLOW, flow(packets=3)))
    assert sum(shard.packets) == 2 * RATE + 3 * RATE  # the rate of one domain serves the others
    assert "sets_held" not in shard.accounts()


def test_an_exporter_that_the_store_has_known_for_long_waits_for_nothing(
    store: Store, now: list[int]
) -> None:
    x, old, _ = moved(store, now)
    old.publish()
    now[0] += 2 * NEWS_NS
    new = Driven(store, now)
    new.pull()
    new.feed(flows(x, flow(packets=2)))
    assert new.packets == [2 * RATE]
    assert "sets_held" not in new.accounts()


def test_a_settled_exporter_costs_no_look_at_each_datagram(store: Store, now: list[int]) -> None:
    x, _, new = moved(store, now)
    new.feed(flows(x, flow()))
    now[0] += NEWS_NS
    new.pull()
    settling = new.collector.decoder.settling
    assert not settling.active
    settling._get = settling._start = None
    new.feed(*(flows(x, flow()) for _ in range(100)))
    assert new.accounts()["records"] == 101


@pytest.mark.parametrize("withdraw", [False, True])
def test_waiting_data_is_decoded_under_its_own_template(
    store: Store, now: list[int], *, withdraw: bool
) -> None:
    x, _, new = moved(store, now)
    new.feed(flows(x, flow(packets=2)))
    if withdraw:
        new.feed(x.message(ipfix_withdrawal_set()))
    else:
        new.feed(x.message(ipfix_template_set(SWAPPED)))
    assert new.packets == [2]
    assert new.accounts()["sets_unsettled"] == 1


def test_data_without_room_is_decoded_at_once(store: Store, now: list[int]) -> None:
    x, old, new = moved(store, now, hold_total=4000)
    new.feed(*(flows(x, flow(packets=2)) for _ in range(10)))
    assert 0 < new.collector.sets_held < 10
    decoded = 10 - new.collector.sets_held
    assert new.packets == [2 * decoded]
    old.publish()
    now[0] += NEWS_NS
    new.pull()
    assert new.packets == [2 * decoded, 2 * (10 - decoded) * RATE]
    assert new.accounts()["sets_unsettled"] == decoded


def test_a_shard_that_ends_decodes_what_waits(store: Store, now: list[int]) -> None:
    x, _, new = moved(store, now)
    new.feed(flows(x, flow(packets=2)))
    assert new.collector.settling
    new.collector.give_up_held()
    assert not new.collector.settling
    assert new.packets == [2]
    assert new.accounts()["sets_unsettled"] == 1


def test_waiting_data_is_decoded_bit_by_bit(
    store: Store, now: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _, new = moved(store, now)
    other = Ipfix(domain=9, sequence=5)
    new.feed(flows(x, flow()), other.tell(FLOW), flows(other, flow()))
    now[0] += NEWS_NS
    release = new.collector.decoder.release_settled
    monkeypatch.setattr(new.collector.decoder, "release_settled", lambda: release(1))
    new.pull()
    assert new.collector.sets_held == 1
    new.turn()
    assert new.collector.sets_held == 0
    assert new.accounts()["sets_held_decoded"] == 2


def test_nothing_waits_if_holding_is_turned_off(store: Store, now: list[int]) -> None:
    x, _, new = moved(store, now, hold=False)
    new.feed(flows(x, flow(packets=2)))
    assert new.packets == [2]
    assert "sets_held" not in new.accounts()


def test_spoofed_places_are_bounded(store: Store, now: list[int]) -> None:
    new = Driven(store, now)
    settling = new.collector.decoder.settling
    settling._limit = 50
    spoofed = [
        Ipfix(domain=d, sequence=1).message(ipfix_template_set(FLOW), flow_set(256, bytes(23)))
        for d in range(200)
    ]
    new.feed(*spoofed[:40])
    new.feed(*spoofed[40:])
    new.feed(*spoofed)
    assert len(settling._state) == 50
    now[0] += PATIENCE_NS
    new.turn()
    assert new.hand_over() == now[0]
    assert not settling.active
    assert new.accounts()["records"] == 400
