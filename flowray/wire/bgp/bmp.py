"""BMP messages other than the routes they carry: versions 3 (RFC 7854, RFC 8671, RFC 9069) and 4
(draft-ietf-grow-bmp-tlv).

A reader takes the octets of one message after the common header, and after the per-peer header
where there is one. It raises `BmpError` with a cause from a fixed set if a length does not fit.
Route Monitoring is read in batches (`flowray.wire.bgp.bmp_kernels`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar

from flowray.wire.packets import address_text

COMMON_HEADER = 6
"""Octets of the common header: version, length of the whole message, type (section 4.1)."""

PEER_HEADER = 42
"""Octets of the per-peer header (section 4.2)."""

V4_MAPPED = 0xFFFF << 32

UNKNOWN = "Unknown"
"""Stands for the name of a code that has none here; the code itself is told beside it."""


class BmpError(ValueError):
    """A message that cannot be read; `str()` is the cause, one of a fixed set."""


class MessageType(IntEnum):
    """BMP Message Types (IANA)."""

    ROUTE_MONITORING = 0
    STATISTICS_REPORT = 1
    PEER_DOWN = 2
    PEER_UP = 3
    INITIATION = 4
    TERMINATION = 5
    ROUTE_MIRRORING = 6


class PeerType(IntEnum):
    """BMP Peer Types (IANA)."""

    GLOBAL = 0
    RD = 1
    LOCAL = 2
    LOC_RIB = 3


PEER_TYPES: dict[int, str] = {
    PeerType.GLOBAL: "Global Instance Peer",
    PeerType.RD: "RD Instance Peer",
    PeerType.LOCAL: "Local Instance Peer",
    PeerType.LOC_RIB: "Loc-RIB Instance Peer",
}


class PeerFlag(IntFlag):
    """Peer flags of peer types 0 to 2; of type 3 the F flag alone (RFC 9069 section 4.2)."""

    V = 0x80
    """The address is one of IPv6."""
    L = 0x40
    """Post-policy."""
    A = 0x20
    """AS_PATH with two octets for an AS number."""
    O = 0x10  # noqa: E741 - the name in RFC 8671
    """Adj-RIB-Out."""
    F = 0x80
    """The Loc-RIB is filtered."""


@dataclass(frozen=True, slots=True)
class Tlv:
    """A type, length, value. `pen` is the enterprise number of a type that is not IANA's; `index`
    tells in Route Monitoring of version 4 to which NLRI it applies (0: all; 0x8000 and a number: to
    those of a group).
    """

    type: int
    value: bytes
    pen: int = 0
    index: int | None = None

    @property
    def text(self) -> str:
        """The value as text (UTF-8, section 4.4); what is no text shows as replacement signs."""
        return self.value.decode("utf-8", "replace").rstrip("\0")


def read_tlvs(data: bytes, *, version: int = 3, indexed: bool = False) -> tuple[Tlv, ...]:
    """The TLVs that fill `data` (section 4.4; draft-ietf-grow-bmp-tlv section 4).

    In version 4 the first bit of the type says that an enterprise number begins the value, and is
    counted in its length; the index is not counted.
    """
    found = []
    at = 0
    header = 6 if indexed else 4
    while at < len(data):
        start = at + header
        if start > len(data):
            raise BmpError("TLV header is cut off")
        kind = int.from_bytes(data[at : at + 2])
        end = start + int.from_bytes(data[at + 2 : at + 4])
        if end > len(data):
            raise BmpError("TLV is cut off")
        index = int.from_bytes(data[at + 4 : at + 6]) if indexed else None
        pen = 0
        if version >= 4 and kind & 0x8000:
            if start + 4 > end:
                raise BmpError("TLV has no room for its enterprise number")
            pen = int.from_bytes(data[start : start + 4])
            kind &= 0x7FFF
            start += 4
        found.append(Tlv(kind, data[start:end], pen, index))
        at = end
    return tuple(found)


@dataclass(frozen=True, slots=True)
class PeerHeader:
    """A per-peer header (section 4.2). `hi` and `lo` are the words of the address (as in
    `flowray.wire.packets`; of a Loc-RIB those of 0.0.0.0); `time_ns` is 0 if the router gave none.
    """

    peer_type: int
    flags: int
    distinguisher: int
    hi: int
    lo: int
    asn: int
    bgp_id: int
    time_ns: int

    @property
    def is_loc(self) -> bool:
        """Whether routes are those of a Loc-RIB (RFC 9069)."""
        return self.peer_type == PeerType.LOC_RIB

    @property
    def is_filtered(self) -> bool:
        """Whether the Loc-RIB is filtered."""
        return self.is_loc and bool(self.flags & PeerFlag.F)

    @property
    def is_post(self) -> bool:
        """Whether routes are those after policy."""
        return not self.is_loc and bool(self.flags & PeerFlag.L)

    @property
    def is_out(self) -> bool:
        """Whether routes are those of an Adj-RIB-Out (RFC 8671)."""
        return not self.is_loc and bool(self.flags & PeerFlag.O)

    @property
    def is_v6(self) -> bool:
        """Whether addresses of the peer are of IPv6."""
        return not self.is_loc and bool(self.flags & PeerFlag.V)

    @property
    def address(self) -> str:
        """Text of the address."""
        return address_text(self.hi, self.lo)


def _address(data: bytes, *, is_v6: bool) -> tuple[int, int]:
    """Words of an address in a field of 16 octets, an IPv4 one in its last four."""
    if is_v6:
        return int.from_bytes(data[:8]), int.from_bytes(data[8:16])
    return 0, V4_MAPPED | int.from_bytes(data[12:16])


def read_peer_header(data: bytes) -> PeerHeader:
    """The per-peer header that `data` begins with."""
    if len(data) < PEER_HEADER:
        raise BmpError("per-peer header is cut off")
    peer_type, flags = data[0], data[1]
    is_v6 = peer_type != PeerType.LOC_RIB and bool(flags & PeerFlag.V)
    hi, lo = _address(data[10:26], is_v6=is_v6)
    seconds = int.from_bytes(data[34:38])
    micros = int.from_bytes(data[38:42])
    return PeerHeader(
        peer_type,
        flags,
        int.from_bytes(data[2:10]),
        hi,
        lo,
        asn=int.from_bytes(data[26:30]),
        bgp_id=int.from_bytes(data[30:34]),
        time_ns=seconds * 1_000_000_000 + micros * 1000 if seconds else 0,
    )


def bgp_message(data: bytes, at: int) -> bytes:
    """The BGP message that begins at `at`, its header included (RFC 4271 section 4.1)."""
    if at + 19 > len(data):
        raise BmpError("BGP message is cut off")
    length = int.from_bytes(data[at + 16 : at + 18])
    if length < 19 or at + length > len(data):
        raise BmpError("BGP message has a length that cannot be")
    return data[at : at + length]


class InformationType(IntEnum):
    """TLVs of Initiation and Peer Up (IANA); 3 and 4 also stand in Peer Down."""

    STRING = 0
    SYS_DESCR = 1
    SYS_NAME = 2
    VRF_TABLE_NAME = 3
    ADMIN_LABEL = 4


@dataclass(frozen=True, slots=True)
class PeerUpMessage:
    """Peer Up (section 4.10): the local end of the BGP session and both OPENs, as messages."""

    local_hi: int
    local_lo: int
    local_port: int
    remote_port: int
    sent_open: bytes
    received_open: bytes
    tlvs: tuple[Tlv, ...]

    @property
    def local_address(self) -> str:
        """Text of the local address."""
        return address_text(self.local_hi, self.local_lo)


def read_peer_up(data: bytes, header: PeerHeader, version: int = 3) -> PeerUpMessage:
    """Peer Up after its per-peer header."""
    if len(data) < 20:
        raise BmpError("Peer Up is cut off")
    hi, lo = _address(data[:16], is_v6=header.is_v6)
    sent = bgp_message(data, 20)
    received = bgp_message(data, 20 + len(sent))
    if sent[18] != 1 or received[18] != 1:
        raise BmpError("Peer Up holds a BGP message that is no OPEN")
    return PeerUpMessage(
        hi,
        lo,
        local_port=int.from_bytes(data[16:18]),
        remote_port=int.from_bytes(data[18:20]),
        sent_open=sent,
        received_open=received,
        tlvs=read_tlvs(data[20 + len(sent) + len(received) :], version=version),
    )


class PeerDownReason(IntEnum):
    """BMP Peer Down Reason Codes (IANA)."""

    LOCAL_NOTIFICATION = 1
    LOCAL_NO_NOTIFICATION = 2
    REMOTE_NOTIFICATION = 3
    REMOTE_NO_NOTIFICATION = 4
    DE_CONFIGURED = 5
    LOCAL_TLVS = 6


PEER_DOWN_REASONS: dict[int, str] = {
    PeerDownReason.LOCAL_NOTIFICATION: "The local system closed the session",
    PeerDownReason.LOCAL_NO_NOTIFICATION: (
        "The local system closed the session without a notification message"
    ),
    PeerDownReason.REMOTE_NOTIFICATION: "The remote system closed the session",
    PeerDownReason.REMOTE_NO_NOTIFICATION: (
        "The remote system closed the session without a notification message"
    ),
    PeerDownReason.DE_CONFIGURED: (
        "Info for this peer will no longer be sent for configuration reasons"
    ),
    PeerDownReason.LOCAL_TLVS: "The local system closed the session, TLV data follows",
}
"""Reason texts by code, as pmacct prints 1 to 5."""


@dataclass(frozen=True, slots=True)
class PeerDownMessage:
    """Peer Down (section 4.9): why the BGP session ended.

    `notification` is the NOTIFICATION that was sent (reason 1) or received (3), as a message;
    `fsm_event` the event of RFC 4271 section 8.1 (reason 2), 0 if none fits.
    """

    reason: int
    notification: bytes | None
    fsm_event: int | None
    tlvs: tuple[Tlv, ...]


def read_peer_down(data: bytes, version: int = 3) -> PeerDownMessage:
    """Peer Down after its per-peer header."""
    if not data:
        raise BmpError("Peer Down is cut off")
    reason, rest = data[0], data[1:]
    notification = fsm_event = None
    if reason in (PeerDownReason.LOCAL_NOTIFICATION, PeerDownReason.REMOTE_NOTIFICATION):
        notification = bgp_message(rest, 0)
        if notification[18] != 3 or len(notification) < 21:
            raise BmpError("Peer Down holds a BGP message that is no NOTIFICATION")
        rest = rest[len(notification) :]
    elif reason == PeerDownReason.LOCAL_NO_NOTIFICATION:
        if len(rest) < 2:
            raise BmpError("Peer Down is cut off")
        fsm_event = int.from_bytes(rest[:2])
        rest = rest[2:]
    if version < 4 and reason != PeerDownReason.LOCAL_TLVS:
        rest = b""  # version 3 has nothing here, whatever a router may append
    return PeerDownMessage(reason, notification, fsm_event, read_tlvs(rest, version=version))


@dataclass(frozen=True, slots=True)
class Statistic:
    """A row of a Statistics Report (section 4.8). `value` is None if the length is none of a
    counter (4), a gauge (8) or a gauge of a family (11); `raw` are the octets in any case.
    """

    type: int
    value: int | None
    afi: int | None
    safi: int | None
    raw: bytes

    NAMES: ClassVar[dict[int, str]] = {
        0: "Number of prefixes rejected by inbound policy",
        1: "Number of (known) duplicate prefix advertisements",
        2: "Number of (known) duplicate withdraws",
        3: "Number of updates invalidated due to CLUSTER_LIST loop",
        4: "Number of updates invalidated due to AS_PATH loop",
        5: "Number of updates invalidated due to ORIGINATOR_ID",
        6: "Number of updates invalidated due to AS_CONFED loop",
        7: "Number of routes in Adj-RIBs-In",
        8: "Number of routes in Loc-RIB",
        9: "Number of routes in per-AFI/SAFI Abj-RIB-In",
        10: "Number of routes in per-AFI/SAFI Loc-RIB",
        11: "Number of updates subjected to treat-as-withdraw",
        12: "Number of prefixes subjected to treat-as-withdraw",
        13: "Number of duplicate update messages received",
        14: "Number of routes in Adj-RIBs-Out Pre-Policy",
        15: "Number of routes in Adj-RIBs-Out Post-Policy",
        16: "Number of routes in per-AFI/SAFI Abj-RIB-Out Pre-Policy",
        17: "Number of routes in per-AFI/SAFI Abj-RIB-Out Post-Policy",
        18: "Number of routes in Adj-RIBs-In Pre-Policy",
        19: "Number of routes in per-AFI/SAFI Adj-RIB-In Pre-Policy",
        20: "Number of routes in Adj-RIBs-In Post-Policy",
        21: "Number of routes in per-AFI/SAFI Adj-RIB-In Post-Policy",
        22: "Number of routes in per-AFI/SAFI Adj-RIB-In rejected by inbound policy",
        23: "Number of routes in per-AFI/SAFI Adj-RIB-In accepted by inbound policy",
    }
    """Names by type. Those up to 17 are pmacct's, spelling included: operators search for them."""

    @property
    def name(self) -> str:
        """Name of the type, UNKNOWN without one."""
        return self.NAMES.get(self.type, UNKNOWN)


def read_statistics(data: bytes, version: int = 3) -> tuple[tuple[Statistic, ...], tuple[Tlv, ...]]:
    """Rows of a Statistics Report after its per-peer header, and the TLVs beside them.

    From draft-ietf-grow-bmp-tlv-20 on the count and its rows stand in a TLV of type 1, others may
    follow. A count cannot be as high as that TLV reads as a count.
    """
    if len(data) < 4:
        raise BmpError("Statistics Report is cut off")
    if version < 4 or int.from_bytes(data[:4]) < 1 << 16:
        return _statistics(data), ()
    tlvs = read_tlvs(data, version=version)
    rows = tuple(row for tlv in tlvs if _is_rows(tlv) for row in _statistics(tlv.value))
    return rows, tuple(tlv for tlv in tlvs if not _is_rows(tlv))


def _is_rows(tlv: Tlv) -> bool:
    return tlv.type == 1 and tlv.pen == 0


def _statistics(data: bytes) -> tuple[Statistic, ...]:
    """As many rows as the count says, or as there are."""
    count = int.from_bytes(data[:4])
    return tuple(_statistic(tlv) for tlv in read_tlvs(data[4:])[:count])


def _statistic(tlv: Tlv) -> Statistic:
    raw = tlv.value
    if len(raw) == 11:
        value = int.from_bytes(raw[3:])
        return Statistic(tlv.type, value, int.from_bytes(raw[:2]), raw[2], raw)
    value_or_none = int.from_bytes(raw) if len(raw) in (4, 8) else None
    return Statistic(tlv.type, value_or_none, None, None, raw)


class TerminationReason(IntEnum):
    """BMP Termination Message Reason Codes (IANA)."""

    ADMINISTRATIVE = 0
    UNSPECIFIED = 1
    OUT_OF_RESOURCES = 2
    REDUNDANT = 3
    PERMANENT = 4


TERMINATION_REASONS: dict[int, str] = {
    TerminationReason.ADMINISTRATIVE: "Session administratively closed",
    TerminationReason.UNSPECIFIED: "Unspecified reason",
    TerminationReason.OUT_OF_RESOURCES: "Out of resources",
    TerminationReason.REDUNDANT: "Redundant connection",
    TerminationReason.PERMANENT: "Session permanently administratively closed",
}


def termination_reason(tlvs: tuple[Tlv, ...]) -> int | None:
    """The reason code among the TLVs of a Termination (section 4.5), None without one."""
    for tlv in tlvs:
        if tlv.type == 1 and tlv.pen == 0 and len(tlv.value) == 2:
            return int.from_bytes(tlv.value)
    return None


class MirroringInformation(IntEnum):
    """BMP Route Mirroring Information Codes (IANA)."""

    ERRORED_PDU = 0
    MESSAGES_LOST = 1


@dataclass(frozen=True, slots=True)
class RouteMirroring:
    """Route Mirroring (section 4.7): BGP messages as the router had them, and what it says of them
    (`MirroringInformation`); other TLVs are kept.
    """

    messages: tuple[bytes, ...]
    information: tuple[int, ...]
    tlvs: tuple[Tlv, ...]


def read_route_mirroring(data: bytes, version: int = 3) -> RouteMirroring:
    """Route Mirroring after its per-peer header."""
    messages, information, others = [], [], []
    for tlv in read_tlvs(data, version=version):
        if tlv.pen == 0 and tlv.type == 0:
            messages.append(tlv.value)
        elif tlv.pen == 0 and tlv.type == 1 and len(tlv.value) == 2:
            information.append(int.from_bytes(tlv.value))
        else:
            others.append(tlv)
    return RouteMirroring(tuple(messages), tuple(information), tuple(others))
