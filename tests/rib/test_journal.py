"""The journal: rows against naive ones, in order, numbered without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias
from unittest.mock import patch

import pytest
from hypothesis import given

from flowray.rib import journal as journal_module
from flowray.rib import rib as rib_module
from flowray.rib.journal import Journal, Labels
from flowray.rib.peers import LOC_RIB_PEER, Peer, PolicyView
from flowray.rib.rib import Changes, Removed
from flowray.wire.bgp.attributes import decode_attributes
from flowray.wire.bgp.distinguisher import rd_text
from flowray.wire.bgp.events import Action, RouteEvents
from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.packets import address_text
from tests.rib.rib_twin import (
    BY_NAME,
    PEERS,
    Change,
    Key,
    Pair,
    Step,
    announcement,
    steps,
    take,
    withdrawal,
)
from tests.rib.stream_rig import KeptStreams

UNICAST, VPN, EVPN = (BY_NAME[name].index for name in ("ipv4 unicast", "vpnv4", "evpn"))
Row: TypeAlias = dict[str, Any]
SHOWN = ("log_type", "peer", "afi", "safi", "ip_prefix", "rd", "as_path_id", "as_path", "med")


def naive_row(slot: int, family: int, key: Key, octets: bytes, log_type: str | None) -> Row:
    """A row of a route, from its key and attribute set."""
    rd, path, hi, lo, plen, _ = key
    row, attributes = FAMILIES[family], decode_attributes(octets)
    ends = log_type == "end-of-rib"
    return {
        "log_type": log_type,
        "peer": PEERS[slot].address,
        "afi": row.afi,
        "safi": row.safi,
        "ip_prefix": f"{address_text(hi, lo)}/{plen}" if row.of_prefixes and not ends else None,
        "rd": rd_text(rd) if row.shape is Shape.VPN and not ends else None,
        "as_path_id": path or None,
        "as_path": None if ends else attributes.as_path_text,
        "med": attributes.med or None,
    }


def projected(row: Row) -> Row:
    """What is compared of a row; absent and empty are alike."""
    row = {**row, "peer": row.get("peer_ip") or row.get("peer_ip_src")}
    return {name: row.get(name) or None for name in SHOWN}


LOG_TYPES = {
    Action.ANNOUNCE: "update",
    Action.WITHDRAW: "withdraw",
    Action.END_OF_RIB: "end-of-rib",
}


class Journalled(Pair):
    """A pair with a journal, and the rows that it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = KeptStreams()
        self.journal = Journal(self.rib, self.kept.streams, Labels())
        self.rib.before_compaction = self.journal.settle
        self.blocks: list[tuple[str, bool, list[Row]]] = []
        """Stream, whether in order, rows."""

    def changed(
        self, events: RouteEvents, changes: Changes, updates: Any, expected: list[Change]
    ) -> None:
        of_bgp = [PEERS[c[0]].protocol == "bgp" for c in expected]
        assert len(set(of_bgp)) <= 1, "a session has one protocol"
        self.journal.changed(events, changes, updates)
        families = events.family[changes.rows].tolist()
        for (slot, action, key, octets, _), family in zip(expected, families, strict=True):
            row = naive_row(slot, family, key, octets, LOG_TYPES[Action(action)])
            self.blocks.append((f"{PEERS[slot].protocol}_log", True, [row]))

    def gone(
        self, slot: int, removed: list[Removed], expected: list[tuple[int, Key, bytes]]
    ) -> None:
        super().gone(slot, removed, expected)
        self.journal.removed(removed, 5)
        rows = [naive_row(slot, family, key, octets, "delete") for family, key, octets in expected]
        self.blocks.append((f"{PEERS[slot].protocol}_log", False, rows))

    def store(self) -> None:
        self.journal.settle()
        for stream in self.kept.streams.values():
            stream.flush(0)
            stream.store()

    def check(self) -> None:
        self.store()
        for name in ("bgp_log", "bmp_log"):
            found = self.kept.rows(name)
            assert [row["seq"] for row in found] == list(range(len(found)))
            at = 0
            for stream, ordered, expected in self.blocks:
                if stream != name:
                    continue
                rows = [projected(row) for row in found[at : at + len(expected)]]
                at += len(expected)
                assert _sorted(rows, ordered) == _sorted(expected, ordered)
            assert at == len(found)


def _sorted(rows: list[Row], ordered: bool) -> list[Row]:
    return rows if ordered else sorted(rows, key=repr)


def of_one_protocol(step: Step) -> list[Step]:
    """A batch of messages as batches of each protocol: a session has one."""
    if step[0] != "tell":
        return [step]
    parts: Sequence[list[Any]] = [], []
    for slot, data in step[1]:
        parts[PEERS[slot].protocol == "bmp"].append((slot, data))
    return [("tell", part) for part in parts if part]


@pytest.mark.parametrize("most_pending", [3, 1 << 14])
@given(todo=steps)
def test_rows_are_those_of_a_naive_log(most_pending: int, todo: list[Step]) -> None:
    with (
        patch.object(rib_module, "COMPACT_FLOOR", 4),
        patch.object(journal_module, "MOST_PENDING", most_pending),
    ):
        pair = Journalled()
        for step in (part for whole in todo for part in of_one_protocol(whole)):
            take(pair, step)
        pair.check()


def test_rows_that_wait_outlive_a_compaction() -> None:
    with patch.object(rib_module, "COMPACT_FLOOR", 4):
        pair = Journalled()
        for n in range(1, 11):
            pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1)], n))])
        assert pair.kept.streams["bgp_log"].rows == 0
        assert pair.rib.compact()
        pair.check()


def test_a_restored_peer_is_logged_when_its_routes_end() -> None:
    pair = Journalled()
    pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1), (2, 1, 1)], 1))])
    pair.restart(0)
    pair.tell([(0, announcement(0, UNICAST, [(2, 1, 1)], 1))])
    pair.end_of_rib(0, UNICAST)
    pair.check()
    assert pair.kept.rows("bgp_log")[-1]["log_type"] == "delete"


def test_nothing_is_written_where_nobody_asks() -> None:
    pair = Journalled()
    pair.journal = Journal(pair.rib, {}, Labels())
    pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1)], 1))])
    pair.drop(0)
    pair.journal.opened("bgp", "192.0.2.1", 1, 0)
    pair.journal.settle()


# -- dumps

WHERE = ("peer", "afi", "safi", "ip_prefix", "rd", "as_path_id", "as_path", "med")


def dumped(pair: Journalled, slot: int, now_ns: int = 9_000_000_000) -> list[Row]:
    peer = PEERS[slot]
    name = f"{peer.protocol}_dump"
    pair.journal.dump(peer.protocol, [(peer.router, peer.port)], now_ns, 60_000_000_000)
    pair.kept.sinks[name].tables.clear()
    stream = pair.kept.streams[name]
    stream.flush(now_ns)
    stream.store()
    return pair.kept.rows(name)


@given(todo=steps)
def test_dumps_have_the_tables_as_they_are(todo: list[Step]) -> None:
    with patch.object(rib_module, "COMPACT_FLOOR", 4):
        pair = Journalled()
        for step in (part for whole in todo for part in of_one_protocol(whole)):
            take(pair, step)
        for slots in ((0,), (1,), (2, 3, 4)):
            rows = dumped(pair, slots[0])
            first, *routes, last = rows
            protocol = PEERS[slots[0]].protocol
            assert (first["event_type"], first["dump_period"]) == ("dump_init", 60)
            assert last["event_type"] == "dump_close"
            places = [(s, p) for s in slots for p in (s, -1 - s) if p in pair.twin.peers]
            expected = [
                naive_row(slot, family, key, octets, None)
                for slot, place in places
                for family, table in pair.twin.peers[place].tables.items()
                for key, (octets, _) in table.items()
            ]
            assert _sorted([projected(r) for r in routes], False) == _sorted(expected, False)
            if protocol == "bgp":
                assert (last["entries"], last["tables"]) == (len(expected), len(places))
            assert len({row["seq"] for row in rows}) == 1, "a dump has one number"


def test_stale_routes_are_marked_in_dumps() -> None:
    pair = Journalled()
    pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1)], 1))])
    assert not dumped(pair, 0)[1].get("stale")
    pair.restart(0)
    assert dumped(pair, 0)[1]["stale"]


def test_rd_of_a_bmp_instance_peer_is_that_of_its_unicast_routes() -> None:
    pair = Journalled()
    instance = Peer("bmp", "198.51.100.9", 2000, "192.0.2.7", "10.0.0.9", 65009,
                    PolicyView.LOC_RIB, LOC_RIB_PEER, 64512 << 32 | 5)  # fmt: skip
    with patch("tests.rib.rib_twin.PEERS", [*PEERS[:4], instance]):
        pair.tell([(4, announcement(4, UNICAST, [(1, 1, 1)], 1))])
        pair.tell([(4, withdrawal(4, UNICAST, [(1, 1, 1)]))])
        pair.tell([(4, announcement(4, VPN, [(1, 1, 1)], 1))])
    pair.store()
    rows = [(row["rd"], row["rd_origin"]) for row in pair.kept.rows("bmp_log")]
    assert rows == [("0:64512:5", "bmp")] * 2 + [("0:64512:1", "bgp")]


def test_opaque_routes_have_their_nlri_in_rows_of_all_kinds() -> None:
    pair = Journalled()
    pair.tell(
        [(0, announcement(0, EVPN, [(7, 1, 1)], 1)), (0, announcement(0, UNICAST, [(1, 1, 1)], 1))]
    )
    (row,) = (r for r in dumped(pair, 0) if r.get("afi") == 25)
    pair.drop(0)
    pair.store()
    logged = [r for r in pair.kept.rows("bgp_log") if r["afi"] == 25]
    assert [r["log_type"] for r in logged] == ["update", "delete"]
    assert row["nlri"] == logged[0]["nlri"] == logged[1]["nlri"]
    assert "07070707" in row["nlri"]
