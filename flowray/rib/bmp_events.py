"""What a BMP session tells of a router, in the order in which the router told it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from flowray.rib.bmp_peers import BmpPeer
from flowray.wire.bgp import bmp
from flowray.wire.bgp.bmp import RouteMirroring, Statistic, Tlv
from flowray.wire.bgp.events import I64, U32, Updates
from flowray.wire.bgp.messages import Notification
from flowray.wire.bgp.open import Open


@dataclass(frozen=True, slots=True)
class Initiation:
    """The router introduces itself (RFC 7854 section 4.3)."""

    tlvs: tuple[Tlv, ...]


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A BGP session of the router is up (section 4.10). An OPEN is None if it told nothing, or
    nothing that can be read. `local_as` is the AS number in the router's OPEN, of a Loc-RIB without
    one that of the header.
    """

    peer: BmpPeer
    time_ns: int
    local_address: str
    local_port: int
    remote_port: int
    local_as: int
    sent: Open | None
    received: Open | None
    tlvs: tuple[Tlv, ...]


@dataclass(frozen=True, slots=True)
class PeerDown:
    """A BGP session of the router is down (section 4.9): the routes of all its `views`, indices of
    `BmpSession.peers`, are gone.
    """

    peer: BmpPeer
    time_ns: int
    views: tuple[int, ...]
    reason: int
    notification: Notification | None
    fsm_event: int | None
    tlvs: tuple[Tlv, ...]

    @property
    def reason_text(self) -> str:
        """The reason in words."""
        return bmp.PEER_DOWN_REASONS.get(self.reason, bmp.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Statistics:
    """A Statistics Report of a peer (section 4.8)."""

    peer: BmpPeer
    time_ns: int
    rows: tuple[Statistic, ...]
    tlvs: tuple[Tlv, ...]


@dataclass(frozen=True, slots=True)
class Marks:
    """Path Marking, a row each (k,): `message` int64, row of the batch; `index` int64, ordinal of
    the NLRI in its UPDATE from 1, 0 for all; `status` uint32, bits of `PATH_STATUS`; `reason`
    int64, a key of `REASONS`, -1 without.
    """

    message: I64
    index: I64
    status: U32
    reason: I64


@dataclass(frozen=True, slots=True)
class RouteMonitoring:
    """UPDATEs of peers (section 4.6): `peers` (n,) int64 indexes `BmpSession.peers`,
    `updates.context` its contexts; `updates.time_ns` is 0 where the router gave no time. `marks`
    are None without any; `tlvs` are what else version 4 told, with the row of the message.
    """

    updates: Updates
    peers: I64
    marks: Marks | None
    tlvs: tuple[tuple[int, Tlv], ...]


@dataclass(frozen=True, slots=True)
class Mirroring:
    """BGP messages of a peer as the router had them (section 4.7)."""

    peer: BmpPeer
    time_ns: int
    content: RouteMirroring


@dataclass(frozen=True, slots=True)
class Termination:
    """The router says that and why it ends the session (section 4.5)."""

    reason: int | None
    tlvs: tuple[Tlv, ...]

    @property
    def reason_text(self) -> str:
        """The reason in words, or its number."""
        if self.reason is None:
            return "no reason given"
        return bmp.TERMINATION_REASONS.get(self.reason, f"reason {self.reason}")


@dataclass(frozen=True, slots=True)
class Discarded:
    """Messages that were not taken, or TLVs beside their UPDATE, by type, cause, and peer if known:
    one row for all of them in the octets at hand.
    """

    message_type: int
    cause: str
    peer: BmpPeer | None
    messages: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over, all its routes are gone. Nothing follows."""

    cause: str


Output: TypeAlias = (
    Initiation
    | PeerUp
    | PeerDown
    | Statistics
    | RouteMonitoring
    | Mirroring
    | Termination
    | Discarded
    | Ended
)
