"""UPDATE messages read one octet string at a time, in plain Python: the twin of
`flowray.wire.bgp.update`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from flowray.wire.bgp.events import Action, Verdict
from flowray.wire.bgp.families import FAMILIES, UNKNOWN_FAMILY, Shape, family_index

Key = tuple[int, int, int, int, int, int, int, int, bytes]
"""family, rd, path id, hi, lo, plen, labels, action, NLRI."""


class FaultError(Exception):
    def __init__(self, verdict: Verdict, cause: str, data: bytes = b"") -> None:
        super().__init__(cause)
        self.verdict, self.cause, self.data = verdict, cause, data


@dataclass
class Message:
    verdict: Verdict = Verdict.WELL_FORMED
    cause: str = ""
    data: bytes = b""
    events: list[tuple[Key, bytes]] = field(default_factory=list)

    def note(self, fault: FaultError) -> None:
        if fault.verdict > self.verdict or not self.cause:
            self.verdict, self.cause, self.data = fault.verdict, fault.cause, fault.data


WITHDRAW, DISCARD, RESET = (
    Verdict.TREAT_AS_WITHDRAW,
    Verdict.ATTRIBUTE_DISCARD,
    Verdict.SESSION_RESET,
)

# type: flags, acceptable lengths, action
RULES = {
    1: (0x40, lambda n: n == 1, WITHDRAW),
    2: (0x40, lambda n: True, WITHDRAW),
    3: (0x40, lambda n: n == 4, WITHDRAW),
    4: (0x80, lambda n: n == 4, WITHDRAW),
    5: (0x40, lambda n: n == 4, WITHDRAW),
    6: (0x40, lambda n: n == 0, DISCARD),
    7: (0xC0, lambda n: n in {6, 8}, DISCARD),
    8: (0xC0, lambda n: n and n % 4 == 0, WITHDRAW),
    9: (0x80, lambda n: n == 4, WITHDRAW),
    10: (0x80, lambda n: n and n % 4 == 0, WITHDRAW),
    16: (0xC0, lambda n: n and n % 8 == 0, WITHDRAW),
    17: (0xC0, lambda n: n >= 6 and n % 2 == 0, DISCARD),
    18: (0xC0, lambda n: n == 8, DISCARD),
    22: (0xC0, lambda n: n >= 5, WITHDRAW),
    25: (0xC0, lambda n: n and n % 20 == 0, WITHDRAW),
    26: (0x80, lambda n: n >= 3, DISCARD),
    29: (0x80, lambda n: True, DISCARD),
    32: (0xC0, lambda n: n and n % 12 == 0, WITHDRAW),
    35: (0xC0, lambda n: n == 4, WITHDRAW),
    40: (0xC0, lambda n: True, DISCARD),
    128: (0xC0, lambda n: n >= 4, WITHDRAW),
}

FLAGS = "attribute flags conflict with the attribute type"
LENGTH = "attribute length conflicts with the attribute type"
OVERRUN = "path attribute exceeds the Total Path Attribute Length"
SEGMENTS = "malformed segments of an AS path"
TLVS = "TLVs do not fill the attribute"
MP_LENGTH = "MP_REACH_NLRI or MP_UNREACH_NLRI is too short"
TWICE = "MP_REACH_NLRI or MP_UNREACH_NLRI appears more than once"
UNKNOWN = "unknown address family"


def segments_fit(value: bytes, width: int) -> bool:
    while value:
        if len(value) < 2 or value[0] not in {1, 2, 3, 4} or value[1] == 0:
            return False
        size = 2 + value[1] * width
        if size > len(value):
            return False
        value = value[size:]
    return True


def tlvs_fit(value: bytes, type_octets: int, inclusive: int) -> bool:
    while value:
        if len(value) < type_octets + 2:
            return False
        (size,) = struct.unpack_from("!H", value, type_octets)
        size += type_octets + 2 - inclusive
        if size < type_octets + 2 or size > len(value):
            return False
        value = value[size:]
    return True


def check(kind: int, flags: int, value: bytes, *, four: bool) -> str:
    wanted, fits, _ = RULES[kind]
    if flags & 0xC0 != wanted:
        return FLAGS
    if not fits(len(value)):
        return LENGTH
    if kind == 1 and value[0] > 2:
        return "undefined ORIGIN"
    if kind == 2 and not segments_fit(value, 4 if four else 2):
        return SEGMENTS
    if kind == 7 and len(value) != (8 if four else 6):
        return LENGTH
    if kind in {17, 18} and four:
        return "AS4_PATH or AS4_AGGREGATOR from a four-octet AS speaker"
    if kind == 17 and not segments_fit(value, 4):
        return SEGMENTS
    layout = {26: (1, 3), 40: (1, 0), 29: (2, 0)}.get(kind)
    if layout and not tlvs_fit(value, *layout):
        return TLVS
    return ""


@dataclass
class Place:
    family: int
    nlri: bytes
    withdrawn: bool
    cause: str
    hop: bytes = b""


@dataclass
class Attributes:
    kept: bytes = b""
    seen: set[int] = field(default_factory=set)
    next_hop: bytes = b""
    reach: Place | None = None
    unreach: Place | None = None


def read_reach(value: bytes) -> Place:
    if len(value) < 5 or value[3] + 5 > len(value):
        raise FaultError(RESET, MP_LENGTH)
    afi, safi, size = struct.unpack_from("!HBB", value)
    family = family_index(afi, safi)
    if family != UNKNOWN_FAMILY:
        allowed = {4, 12, 16, 24, 32, 48} | (set() if FAMILIES[family].of_prefixes else {0})
        if size not in allowed:
            raise FaultError(RESET, "length of the next hop in MP_REACH_NLRI")
    hop = value[4 : 4 + size]
    if size in {12, 24}:
        hop = hop[8:]
    elif size == 48:
        hop = hop[8:24] + hop[32:]
    return Place(family, value[5 + size :], False, "malformed NLRI in MP_REACH_NLRI", hop)


def read_unreach(value: bytes) -> Place:
    if len(value) < 3:
        raise FaultError(RESET, MP_LENGTH)
    afi, safi = struct.unpack_from("!HB", value)
    cause = "malformed NLRI in MP_UNREACH_NLRI"
    return Place(family_index(afi, safi), value[3:], True, cause)


def take(found: Attributes, whole: bytes, value: bytes, *, four: bool) -> None:
    flags, kind = whole[0], whole[1]
    if kind in found.seen:
        if kind in {14, 15}:
            raise FaultError(
                RESET, "MP_REACH_NLRI or MP_UNREACH_NLRI appears more than once", whole
            )
        raise FaultError(DISCARD, "attribute appears more than once", whole)
    found.seen.add(kind)
    if kind in {14, 15}:
        if flags & 0xC0 != 0x80:
            raise FaultError(RESET, "flags of MP_REACH_NLRI or MP_UNREACH_NLRI", whole)
        try:
            if kind == 14:
                found.reach = read_reach(value)
            else:
                found.unreach = read_unreach(value)
        except FaultError as fault:
            fault.data = whole
            raise
        return
    if kind not in RULES:
        found.kept += whole
        if not flags & 0x80:
            raise FaultError(RESET, "unrecognized well-known attribute", whole)
        return
    cause = check(kind, flags, value, four=four)
    if cause:
        raise FaultError(RULES[kind][2], cause, whole)
    if kind == 3:
        found.next_hop = value
    else:
        found.kept += whole


def read_attributes(data: bytes, message: Message, *, four: bool) -> Attributes:
    found = Attributes()
    while data:
        header = 4 if data[0] & 0x10 else 3
        size = 0
        if len(data) >= header:
            size = data[2] if header == 3 else struct.unpack_from("!H", data, 2)[0]
        if header + size > len(data):
            multiprotocol = data[1:2] in {b"\x0e", b"\x0f"}
            message.note(FaultError(RESET if multiprotocol else WITHDRAW, OVERRUN, data))
            break
        whole, data = data[: header + size], data[header + size :]
        try:
            take(found, whole, whole[header:], four=four)
        except FaultError as fault:
            message.note(fault)
    return found


def split_labels(bits: str, *, withdrawn: bool) -> tuple[list[int], str]:
    """Labels and the bits after them; ValueError if there is none."""
    stack: list[int] = []
    rest = bits
    while len(rest) >= 24:
        word, rest = int(rest[:24], 2), rest[24:]
        stack.append(word >> 4)
        if word & 1 or (withdrawn and word in {0, 0x800000}):
            return stack, rest
    if not stack:
        raise ValueError
    return stack[:1], bits[24:]


def words(bits: str, most: int) -> tuple[int, int]:
    number = int(bits.ljust(most, "0"), 2)
    if most == 32:
        return 0, 0xFFFF << 32 | number
    return number >> 64, number & (1 << 64) - 1


def read_prefix(family: int, data: bytes, *, withdrawn: bool) -> tuple[int, int, int, int, int]:
    """rd, hi, lo, plen, labels of an NLRI without its length."""
    shape, most = FAMILIES[family].shape, 8 * FAMILIES[family].address_octets
    bits = "".join(f"{octet:08b}" for octet in data[1:])[: data[0]]
    rd = labels = 0
    if shape != Shape.PREFIX:
        stack, bits = split_labels(bits, withdrawn=withdrawn)
        labels = len(stack) << 60
        for k, label in enumerate(stack[:3]):
            labels |= label << 20 * k
    if shape == Shape.VPN:
        if len(bits) < 64:
            raise ValueError
        rd, bits = int(bits[:64], 2), bits[64:]
    if len(bits) > most:
        raise ValueError
    return rd, *words(bits, most), len(bits), labels


def nlri_size(family: int, data: bytes) -> int:
    shape = FAMILIES[family].shape
    if shape <= Shape.VPN:
        return 1 + (data[0] + 7) // 8
    if shape == Shape.EVPN:
        return 2 + data[1]
    if shape == Shape.TARGET:
        if data[0] != 0 and not 32 <= data[0] <= 96:
            raise ValueError
        return 1 + (data[0] + 7) // 8
    if shape in {Shape.FLOWSPEC, Shape.FLOWSPEC_VPN}:
        if data[0] < 0xF0:
            return 1 + data[0]
        return 2 + ((data[0] & 0x0F) << 8 | data[1])
    return 4 + (data[2] << 8 | data[3])


def opaque_rd(family: int, nlri: bytes) -> int:
    shape = FAMILIES[family].shape
    front = {Shape.EVPN: 2, Shape.LINK_STATE_VPN: 4}.get(shape, -1)
    if shape == Shape.FLOWSPEC_VPN:
        front = 1 if nlri[0] < 0xF0 else 2
    if front < 0:
        return 0
    if len(nlri) < front + 8:
        if shape == Shape.EVPN:
            return 0
        raise ValueError
    return int.from_bytes(nlri[front : front + 8], "big")


def read_nlri(place: Place, action: Action, *, paths: bool) -> Iterator[Key]:
    """Raises ValueError or IndexError where the field is malformed."""
    data = place.nlri
    family = place.family
    while data:
        path = 0
        if paths:
            if len(data) < 5:
                raise ValueError
            path, data = int.from_bytes(data[:4], "big"), data[4:]
        size = nlri_size(family, data)
        if size > len(data):
            raise ValueError
        nlri, data = data[:size], data[size:]
        if FAMILIES[family].of_prefixes:
            rd, hi, lo, plen, labels = read_prefix(family, nlri, withdrawn=place.withdrawn)
            labels = labels if action == Action.ANNOUNCE else 0
            yield family, rd, path, hi, lo, plen, labels, action, nlri
        else:
            yield family, opaque_rd(family, nlri), path, 0, 0, 0, 0, action, nlri


def end_of_rib(found: Attributes, places: list[Place], attributes: bytes) -> int:
    """Family of the marker, or -1."""
    if any(place.nlri for place in places) or found.reach:
        return -1
    if found.unreach:
        return found.unreach.family
    return -1 if attributes else 0


def parse(data: bytes, *, four: bool, add_path: int) -> Message:
    message = Message()
    try:
        _parse(data, message, four=four, add_path=add_path)
    except FaultError as fault:
        message.note(fault)
    if message.verdict == RESET:
        message.events.clear()
    return message


def fields(data: bytes) -> tuple[bytes, bytes, bytes]:
    if len(data) < 23:
        raise FaultError(RESET, "message is too short for an UPDATE")
    size = int.from_bytes(data[19:21], "big")
    if 23 + size > len(data):
        raise FaultError(RESET, "Withdrawn Routes Length exceeds the message")
    withdrawn, data = data[21 : 21 + size], data[21 + size :]
    size = int.from_bytes(data[:2], "big")
    if 2 + size > len(data):
        raise FaultError(RESET, "Total Path Attribute Length exceeds the message")
    return withdrawn, data[2 : 2 + size], data[2 + size :]


def _parse(data: bytes, message: Message, *, four: bool, add_path: int) -> None:
    withdrawn, attributes, nlri = fields(data)
    found = read_attributes(attributes, message, four=four)
    reachable = bool(nlri or (found.reach and found.reach.nlri))
    if reachable:
        wanted = {1, 2, 3} if nlri else {1, 2}
        if not wanted <= found.seen:
            message.note(FaultError(WITHDRAW, "well-known mandatory attribute is missing"))
    elif message.verdict == WITHDRAW:
        message.verdict = RESET
    maybe = (
        Place(0, withdrawn, True, "malformed Withdrawn Routes"),
        found.unreach,
        Place(0, nlri, False, "malformed Network Layer Reachability Information", found.next_hop),
        found.reach,
    )
    places = [place for place in maybe if place]
    for place in places:
        if place.family == UNKNOWN_FAMILY:
            if place.nlri:
                message.note(FaultError(Verdict.WELL_FORMED, UNKNOWN))
            continue
        announced = not place.withdrawn and message.verdict < WITHDRAW
        action = Action.ANNOUNCE if announced else Action.WITHDRAW
        attribute_set = b""
        if announced:
            attribute_set = bytes([four, len(place.hop)]) + place.hop + found.kept
        try:
            paths = bool(add_path >> place.family & 1)
            for key in read_nlri(place, action, paths=paths):
                message.events.append((key, attribute_set))
        except (ValueError, IndexError):
            raise FaultError(RESET, place.cause) from None
    if not message.events and message.verdict < WITHDRAW:
        family = end_of_rib(found, places, attributes)
        if family == UNKNOWN_FAMILY:
            message.note(FaultError(Verdict.WELL_FORMED, UNKNOWN))
        elif family >= 0:
            key = (family, 0, 0, 0, 0, 0, 0, Action.END_OF_RIB, b"")
            message.events.append((key, b""))
