"""RIBs out of files: MRT dumps and recordings, as they are when the file ends."""

from __future__ import annotations

import os
from ipaddress import IPv4Address

import numpy as np

from flowray.rib.peers import Peer
from flowray.rib.rib import Rib
from flowray.wire.bgp.mrt import CONTEXTS, MrtPeer, MrtReader, MrtUpdates
from flowray.wire.bgp.update import parse_updates
from flowray.wire.packets import address_text

ESTABLISHED = 6
"""State of a session while which routes hold (RFC 6396 section 4.4.1)."""


def read_mrt(path: str | os.PathLike[str]) -> Rib:
    """The tables that an MRT file tells of: those it dumps, and what its messages made of them.

    Raises CaptureError for a file that is missing.
    """
    rib = Rib()
    numbers: dict[int, int] = {}
    with MrtReader(path) as reader:
        for event in reader:
            if isinstance(event, MrtUpdates):
                _apply(rib, event, reader.peers, numbers)
            elif event.new != ESTABLISHED and event.peer in numbers:
                rib.drop(numbers.pop(event.peer))
    return rib


def _apply(rib: Rib, told: MrtUpdates, peers: list[MrtPeer], numbers: dict[int, int]) -> None:
    rib.compact()
    events = parse_updates(told.updates, CONTEXTS, rib.store).events
    # What the collector sent itself is no route of the peer's.
    events = events.take(np.flatnonzero(told.sent[events.message] == 0))
    for index in np.unique(told.peer[events.message]).tolist():
        if index not in numbers:
            numbers[index] = rib.open(_peer(peers[index]))
    number = np.zeros(len(peers), np.int64)
    number[list(numbers)] = list(numbers.values())
    add_path = CONTEXTS.add_path[told.updates.context]
    rib.apply(number[told.peer], events, told.updates.buf, add_path)


def _peer(peer: MrtPeer) -> Peer:
    address = address_text(peer.hi, peer.lo)
    return Peer("bgp", address, 0, address, str(IPv4Address(peer.bgp_id)), peer.asn)
