"""The registry of sFlow counter fields: what a view of counters may name.

A row of such a view is one block of a counter sample (sFlow version 5). Names are the JSON keys of
pmacct's sfacctd. Counters of other blocks than the row's own are 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from flowray.columns import Layout
from flowray.field import Field, Kind, Source
from flowray.fields import REGISTRY, Registry
from flowray.hashing import Interner

__all__ = ["BLOCKS", "COUNTERS", "COUNTER_LAYOUT", "block_names"]

_Row: TypeAlias = tuple[str, int, str]
"""Name, bits on the wire, meaning."""

_GROUP: Final = "sFlow counters"

_BLOCK_NAMES: Final = (
    b"sflow_cnt_generic",
    b"sflow_cnt_ethernet",
    b"sflow_cnt_tokenring",
    b"sflow_cnt_vg",
    b"sflow_cnt_vlan",
)
"""Value of `sf_cnt_type` by number of the block, from 1. Token ring and 100BaseVG only keep the
place: they are not decoded.
"""

_HEAD: Final = (
    Field(
        "timestamp",
        "timestamp",
        Kind.TIME,
        64,
        source=Source.HEADER,
        group=_GROUP,
        doc="arrival of the datagram",
    ),
    Field(
        "peer_ip_src",
        "peer_ip_src",
        Kind.ADDRESS,
        128,
        source=Source.HEADER,
        group=_GROUP,
        doc="address of the agent",
    ),
    *(
        Field(name, name, kind, 32, source=Source.HEADER, group=_GROUP, doc=doc)
        for name, kind, doc in (
            ("source_id_index", Kind.UINT, "index of the data source that was polled"),
            ("sflow_seq", Kind.UINT, "sequence number of the datagram"),
            ("sflow_cnt_seq", Kind.UINT, "sequence number of the counter sample"),
            ("sf_cnt_type", Kind.TEXT, "which block: sflow_cnt_generic, _ethernet or _vlan"),
        )
    ),
)

_GENERIC: Final[tuple[_Row, ...]] = (
    ("ifIndex", 32, "interface index"),
    ("ifType", 32, "type of the interface (IANA ifType)"),
    ("ifSpeed", 64, "bit/s"),
    ("ifDirection", 32, "1 full duplex, 2 half duplex, 3 in only, 4 out only, 0 unknown"),
    ("ifStatus", 32, "bit 0: ifAdminStatus is up, bit 1: ifOperStatus is up"),
    ("ifInOctets", 64, "octets in"),
    ("ifInUcastPkts", 32, "unicast packets in"),
    ("ifInMulticastPkts", 32, "multicast packets in"),
    ("ifInBroadcastPkts", 32, "broadcast packets in"),
    ("ifInDiscards", 32, "packets in that were discarded without an error"),
    ("ifInErrors", 32, "packets in with an error"),
    ("ifInUnknownProtos", 32, "packets in of an unknown protocol"),
    ("ifOutOctets", 64, "octets out"),
    ("ifOutUcastPkts", 32, "unicast packets out"),
    ("ifOutMulticastPkts", 32, "multicast packets out"),
    ("ifOutBroadcastPkts", 32, "broadcast packets out"),
    ("ifOutDiscards", 32, "packets out that were discarded without an error"),
    ("ifOutErrors", 32, "packets out that an error prevented"),
    ("ifPromiscuousMode", 32, "1 if the interface is in promiscuous mode, 2 if not"),
)

_ETHERNET: Final[tuple[_Row, ...]] = (
    ("dot3StatsAlignmentErrors", 32, "frames in that are no whole number of octets"),
    ("dot3StatsFCSErrors", 32, "frames in with a wrong checksum"),
    ("dot3StatsSingleCollisionFrames", 32, "frames sent after one collision"),
    ("dot3StatsMultipleCollisionFrames", 32, "frames sent after several collisions"),
    ("dot3StatsSQETestErrors", 32, "SQE test errors"),
    ("dot3StatsDeferredTransmissions", 32, "frames that waited for a busy medium"),
    ("dot3StatsLateCollisions", 32, "collisions later than a slot time"),
    ("dot3StatsExcessiveCollisions", 32, "frames given up after too many collisions"),
    ("dot3StatsInternalMacTransmitErrors", 32, "frames not sent for an error of the MAC layer"),
    ("dot3StatsCarrierSenseErrors", 32, "times that the carrier was lost while sending"),
    ("dot3StatsFrameTooLongs", 32, "frames in that are too long"),
    ("dot3StatsInternalMacReceiveErrors", 32, "frames in lost to an error of the MAC layer"),
    ("dot3StatsSymbolErrors", 32, "times that an invalid symbol was on the medium"),
)

_VLAN: Final[tuple[_Row, ...]] = (
    ("vlan", 32, "VLAN id"),
    ("octets", 64, "octets on the VLAN"),
    ("ucastPkts", 32, "unicast packets on the VLAN"),
    ("multicastPkts", 32, "multicast packets on the VLAN"),
    ("broadcastPkts", 32, "broadcast packets on the VLAN"),
    ("discards", 32, "packets of the VLAN that were discarded"),
)


def _block(name: str, rows: tuple[_Row, ...]) -> Iterator[Field]:
    for key, bits, doc in rows:
        yield Field(key, key, Kind.UINT, bits, group=f"{_GROUP}: {name}", doc=doc)


BLOCKS: Final[dict[int, tuple[Field, ...]]] = {
    1: tuple(_block("interface", _GENERIC)),
    2: tuple(_block("Ethernet", _ETHERNET)),
    5: tuple(_block("VLAN", _VLAN)),
}
"""Counters by number of their block (sFlow version 5, counter formats of enterprise 0), in the
order of the wire.
"""

COUNTERS: Final = Registry(
    rows=(*_HEAD, *(f for block in BLOCKS.values() for f in block), REGISTRY["_packet"])
)
"""Fields of a counter block by name, in the order of keys in rendered rows."""

COUNTER_LAYOUT: Final = Layout(COUNTERS, COUNTERS)
"""Native batches of counter blocks; `sf_cnt_type` is the number of the block, which is also its id
in `block_names`.
"""


def block_names() -> Interner:
    """Names of the blocks as texts: the id of each is the number of the block."""
    names = Interner()
    names.add_all(_BLOCK_NAMES)
    return names
