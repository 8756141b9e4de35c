"""The BGP peers of one router as BMP tells them: their views, and how their UPDATEs are encoded."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TypeAlias

import numpy as np

from flowray.wire.bgp.bmp import PeerHeader
from flowray.wire.bgp.bmp_kernels import HEADER_COLUMNS, add_header
from flowray.wire.bgp.capabilities import AddPath, Capability, FourOctetAs
from flowray.wire.bgp.events import I64, U8, U64, Contexts, Updates
from flowray.wire.bgp.families import UNKNOWN_FAMILY, family_index
from flowray.wire.bgp.open import Open
from flowray.wire.bgp.path_id_kernels import find_path_ids

Identity: TypeAlias = tuple[int, int, int, int, int]
"""Peer type, distinguisher, words of the address, BGP id: what Peer Up and Peer Down are about."""

_FIRST_SLOTS = 64


@dataclass(slots=True)
class BmpPeer:
    """A BGP peer of a router in one policy view, or one of its Loc-RIBs.

    `hi` and `lo` are the words of `address`; `distinguisher` the octets of the route distinguisher
    as a big-endian number; `asn` that of the header that told of the peer first. `peer_up` is
    whether Peer Up has been seen and no Peer Down since.
    """

    index: int
    peer_type: int
    distinguisher: int
    hi: int
    lo: int
    address: str
    asn: int
    bgp_id: int
    is_post: bool
    is_out: bool
    is_loc: bool
    is_filtered: bool
    peer_up: bool = False

    @property
    def identity(self) -> Identity:
        """What all views of the peer have in common."""
        return self.peer_type, self.distinguisher, self.hi, self.lo, self.bgp_id

    @property
    def router_id(self) -> str:
        """Text of the BGP id."""
        return str(IPv4Address(self.bgp_id))


@dataclass(slots=True)
class _Session:
    """What Peer Up told of a BGP session: bits of families that have path identifiers, in routes
    from the peer and in routes to it.
    """

    views: list[int] = field(default_factory=list)
    up: bool = False
    add_path_in: int = 0
    add_path_out: int = 0


def _identity(header: PeerHeader) -> Identity:
    return header.peer_type, header.distinguisher, header.hi, header.lo, header.bgp_id


def _bit(afi: int, safi: int) -> int:
    index = family_index(afi, safi)
    return 0 if index == UNKNOWN_FAMILY else 1 << index


def _bits(rows: tuple[AddPath, ...], modes: tuple[int, ...]) -> int:
    return sum({_bit(row.afi, row.safi) for row in rows if row.mode in modes})


_RECEIVES, _SENDS, _ANY = (1, 3), (2, 3), (1, 2, 3)


def add_path_bits(sender: Open, receiver: Open) -> int:
    """Bits of the families whose NLRI have path identifiers in that direction (RFC 7911)."""
    return _bits(sender.add_path, _SENDS) & _bits(receiver.add_path, _RECEIVES)


class BmpPeers:
    """All peers of a router, at most `limit`, numbered from 0, and the contexts of their UPDATEs.

    `table` finds peers by header, for `bmp_kernels.find_peers`: it is filled as headers come by and
    emptied when it is full. `context_of` (peers or more, 2) int64 has the context of each without
    and with AS numbers of four octets, -1 while it is not up, but for types in `without_peer_up`.
    """

    def __init__(self, limit: int, without_peer_up: frozenset[int]) -> None:
        self.limit = limit
        self.without_peer_up = without_peer_up
        self.peers: list[BmpPeer] = []
        # A secret seed keeps a sender from choosing headers that collide.
        self.seed = np.uint64(secrets.randbits(64))
        self.table: U64 = np.zeros((_FIRST_SLOTS, HEADER_COLUMNS), np.uint64)
        self.context_of: I64 = np.full((16, 2), -1, np.int64)
        self._plain: U64 = np.zeros(16, np.uint64)
        self._most_slots = max(_FIRST_SLOTS, 1 << (4 * limit).bit_length())
        self._headers = 0
        self._views: dict[tuple[Identity, bool, bool, bool], int] = {}
        self._sessions: dict[Identity, _Session] = {}
        self._by_address: dict[tuple[int, int, int, int], list[_Session]] = {}
        self._contexts: dict[tuple[bool, int], int] = {}
        self._known: list[tuple[bool, int]] = []

    @property
    def contexts(self) -> Contexts:
        """All contexts so far; those that were there keep their index."""
        return Contexts(
            np.array([four for four, _ in self._known], np.bool_),
            np.array([bits for _, bits in self._known], np.uint64),
        )

    def context_by(self, context: int, capabilities: tuple[Capability, ...]) -> int:
        """Index of the context that differs from `context` by what capabilities say that stand
        beside an UPDATE (draft-ietf-grow-bmp-tlv section 5.2.3).
        """
        four_octets, add_path = self._known[context]
        for record in (record for capability in capabilities for record in capability.records):
            if isinstance(record, FourOctetAs):
                four_octets = True
            elif isinstance(record, AddPath):
                bit = _bit(record.afi, record.safi)
                add_path = add_path | bit if record.mode in _ANY else add_path & ~bit
        return self._context(four_octets, add_path)

    def correct_contexts(self, updates: Updates, peers: I64) -> None:
        """Give UPDATEs of peers (n,) whose NLRI lack the path identifiers that were negotiated
        contexts that say so.
        """
        negotiated = self.contexts.add_path[updates.context]
        if not negotiated.any():
            return
        found = negotiated.copy()
        find_path_ids(updates.buf, updates.offset, updates.length, peers, self._plain, found)
        changed = found != negotiated
        for context in np.unique(updates.context[changed]).tolist():
            of_context = changed & (updates.context == context)
            for bits in np.unique(found[of_context]).tolist():
                other = self._context(self._known[context][0], bits)
                updates.context[of_context & (found == bits)] = other

    def _context(self, four_octets: bool, add_path: int) -> int:
        """Index of a context: there are at most two for each set of families."""
        index = self._contexts.setdefault((four_octets, add_path), len(self._known))
        if index == len(self._known):
            self._known.append((four_octets, add_path))
        return index

    def find(self, header: PeerHeader) -> BmpPeer | None:
        """The peer of a header, a new one if need be; None if there are too many."""
        identity = _identity(header)
        view = identity, header.is_post, header.is_out, header.is_filtered
        index = self._views.get(view)
        if index is not None:
            return self.peers[index]
        if len(self.peers) >= self.limit:
            return None
        peer = BmpPeer(
            len(self.peers),
            header.peer_type,
            header.distinguisher,
            header.hi,
            header.lo,
            header.address,
            header.asn,
            header.bgp_id,
            is_post=header.is_post,
            is_out=header.is_out,
            is_loc=header.is_loc,
            is_filtered=header.is_filtered,
        )
        self.peers.append(peer)
        self._views[view] = peer.index
        session = self._sessions.get(identity)
        if session is None:
            session = self._sessions[identity] = _Session()
            self._by_address.setdefault(identity[:4], []).append(session)
        session.views.append(peer.index)
        if peer.index >= len(self.context_of):
            more = np.full_like(self.context_of, -1)
            self.context_of = np.concatenate([self.context_of, more])
            self._plain = np.concatenate([self._plain, np.zeros_like(self._plain)])
        self._settle(session, peer)
        return peer

    def enter(self, buf: U8, at: int, header: PeerHeader) -> None:
        """Enter the header that stands in `buf` at `at` into the table."""
        if 2 * (self._headers + 1) > len(self.table):
            slots = min(2 * len(self.table), self._most_slots)
            self.table = np.zeros((slots, HEADER_COLUMNS), np.uint64)
            self._headers = 0
        peer = self.find(header)
        add_header(self.table, self.seed, buf, at, -1 if peer is None else peer.index)
        self._headers += 1

    def up(self, peer: BmpPeer, sent: Open | None, received: Open | None) -> None:
        """Peer Up with the OPENs of the router and of the peer, None for one that told nothing.

        Some routers tell a peer once for each family: what further ones say holds for the families
        that they name, the rest stays.
        """
        session = self._sessions[peer.identity]
        into = out = 0
        named = -1
        if sent is not None and received is not None:
            into, out = add_path_bits(received, sent), add_path_bits(sent, received)
            if peer.is_loc:  # both are made up alike, and tell what is in the UPDATEs (RFC 9069)
                into = _bits(sent.add_path, _ANY) & _bits(received.add_path, _ANY)
            named = sum({_bit(f.afi, f.safi) for f in (*sent.families, *received.families)})
        if session.up:
            into |= session.add_path_in & ~named
            out |= session.add_path_out & ~named
        session.up, session.add_path_in, session.add_path_out = True, into, out
        for index in session.views:
            self._settle(session, self.peers[index])
            self._plain[index] = 0

    def down(self, peer: BmpPeer) -> tuple[int, ...]:
        """Peer Down: indices of all views of the peer, whose routes are gone.

        Some routers have forgotten the BGP id by then and write 0, which none has: it is about
        whoever is at the address.
        """
        sessions = [self._sessions[peer.identity]]
        if not peer.bgp_id:
            sessions = self._by_address[peer.identity[:4]]
        for session in sessions:
            session.up, session.add_path_in, session.add_path_out = False, 0, 0
            for index in session.views:
                self._settle(session, self.peers[index])
        return tuple(index for session in sessions for index in session.views)

    def _settle(self, session: _Session, peer: BmpPeer) -> None:
        """Bring a view into line with its session."""
        peer.peer_up = session.up
        bits = session.add_path_out if peer.is_out else session.add_path_in
        known = session.up or peer.peer_type in self.without_peer_up
        for four_octets in (False, True):
            self.context_of[peer.index, int(four_octets)] = (
                self._context(four_octets, bits) if known else -1
            )
