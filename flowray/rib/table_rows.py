"""Rows of whole tables of routes: from a table and its peer to what `rows` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flowray.rib.peers import Peer
from flowray.rib.route_columns import RdOrigin, Routes
from flowray.rib.row_peers import BgpPeer, BmpPeer
from flowray.rib.table import Rows
from flowray.wire.bgp.events import I64, U8, U64
from flowray.wire.bgp.families import FAMILIES, Shape

__all__ = ["bgp_peer", "bmp_peer", "distinguishers", "routes_of_table"]


def _of_shape(shape: Shape) -> npt.NDArray[np.bool_]:
    """(256,) bool, the families of a shape by their index."""
    marks = np.zeros(256, np.bool_)
    marks[[f.index for f in FAMILIES if f.shape is shape]] = True
    return marks


_VPN, _LABELED = _of_shape(Shape.VPN), _of_shape(Shape.LABELED)


def routes_of_table(
    peer: Peer, family: int, rows: Rows, nlri: Sequence[bytes], seq: U64, now_ns: int
) -> Routes:
    """Rows (n,) of one table as `Routes`, whose peer is the only one. `nlri` (n,) is given in
    families that are not of prefixes, and empty in others.
    """
    n = len(rows)
    families = np.full(n, family, np.uint8)
    rd, rd_origin = distinguishers([peer], np.zeros(n, np.int64), rows.rd, families)
    lengths = np.array([len(x) for x in nlri], np.int64)
    return Routes(
        peer=np.zeros(n, np.int64),
        family=families,
        rd=rd,
        rd_origin=rd_origin,
        path_id=rows.path_id,
        hi=rows.hi,
        lo=rows.lo,
        plen=rows.plen,
        labels=rows.labels,
        attributes=rows.attributes,
        seq=seq,
        time_ns=np.full(n, now_ns, np.int64),
        nlri=(np.frombuffer(b"".join(nlri), np.uint8), np.cumsum(lengths) - lengths, lengths)
        if nlri
        else None,
    )


def distinguishers(
    peers: Sequence[Peer], peer: I64, rd: U64, family: npt.NDArray[Any]
) -> tuple[U64, U8]:
    """RD (n,) of each route and what told it: its prefix, else the header of a BMP peer. `peer`
    (n,) indexes `peers`, `rd` (n,) are those of prefixes.
    """
    own = _VPN[family]
    of_peer = np.array([p.instance_rd for p in peers], np.uint64)[peer]
    of_peer[_LABELED[family]] = 0
    origin = np.where(own, RdOrigin.BGP, np.where(of_peer != 0, RdOrigin.BMP, RdOrigin.NONE))
    return np.where(own, rd, of_peer), origin.astype(np.uint8)


def bgp_peer(peer: Peer, label: str | None) -> BgpPeer:
    """A peer as rows of BGP show it."""
    return BgpPeer(peer.address, peer.port, peer.bgp_id, label=label)


def bmp_peer(peer: Peer, label: str | None) -> BmpPeer:
    """A peer as rows of BMP show it. As in pmacct, the F flag shows in rows of Peer Up, Peer Down
    and statistics alone.
    """
    return BmpPeer(
        peer.router,
        peer.port,
        peer.address,
        peer.asn,
        peer.bgp_id,
        peer.view,
        peer.peer_type,
        filtered=False,
        label=label,
    )
