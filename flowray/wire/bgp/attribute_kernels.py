"""Compiled checks of path attributes: what RFC 7606 asks for each of them.

`walk_attributes` goes once over the attributes of a message. What may stay is listed as runs of
octets; NEXT_HOP, MP_REACH_NLRI and MP_UNREACH_NLRI are located and kept out.
"""

from __future__ import annotations

import numpy as np

from flowray.wire.bgp import causes, kernels
from flowray.wire.bgp.families import FAMILIES, UNKNOWN_FAMILY
from flowray.wire.bgp.kernels import Bytes, Ints, kernel, note, u8, u16

_DISCARD, _WITHDRAW, _RESET = (
    kernels.ATTRIBUTE_DISCARD,
    kernels.TREAT_AS_WITHDRAW,
    kernels.SESSION_RESET,
)
_WELL_KNOWN, _OPTIONAL, _TRANSITIVE = 0x40, 0x80, 0xC0
_ANY = 0xFFFF

# By type: Optional and Transitive flags, least and most octets, of which a multiple, and what a
# violation leads to. Types that are not here are passed on as they are.
_RULES = (
    (kernels.ORIGIN, _WELL_KNOWN, 1, 1, 1, _WITHDRAW),
    (kernels.AS_PATH, _WELL_KNOWN, 0, _ANY, 1, _WITHDRAW),
    (kernels.NEXT_HOP_TYPE, _WELL_KNOWN, 4, 4, 1, _WITHDRAW),
    (kernels.MULTI_EXIT_DISC, _OPTIONAL, 4, 4, 1, _WITHDRAW),
    (kernels.LOCAL_PREF, _WELL_KNOWN, 4, 4, 1, _WITHDRAW),
    (kernels.ATOMIC_AGGREGATE, _WELL_KNOWN, 0, 0, 1, _DISCARD),
    (kernels.AGGREGATOR, _TRANSITIVE, 6, 8, 2, _DISCARD),
    (kernels.COMMUNITIES, _TRANSITIVE, 4, _ANY, 4, _WITHDRAW),  # RFC 7606 section 7.8
    (kernels.ORIGINATOR_ID, _OPTIONAL, 4, 4, 1, _WITHDRAW),
    (kernels.CLUSTER_LIST, _OPTIONAL, 4, _ANY, 4, _WITHDRAW),
    (kernels.EXTENDED_COMMUNITIES, _TRANSITIVE, 8, _ANY, 8, _WITHDRAW),
    (kernels.AS4_PATH, _TRANSITIVE, 6, _ANY, 2, _DISCARD),  # RFC 6793 section 6
    (kernels.AS4_AGGREGATOR, _TRANSITIVE, 8, 8, 1, _DISCARD),
    (kernels.PMSI_TUNNEL, _TRANSITIVE, 5, _ANY, 1, _WITHDRAW),  # RFC 6514 section 5
    (kernels.IPV6_EXTENDED_COMMUNITIES, _TRANSITIVE, 20, _ANY, 20, _WITHDRAW),
    (kernels.AIGP, _OPTIONAL, 3, _ANY, 1, _DISCARD),  # RFC 7311 section 3
    (kernels.BGP_LS, _OPTIONAL, 0, _ANY, 1, _DISCARD),  # RFC 9552 section 8.2.2
    (kernels.LARGE_COMMUNITIES, _TRANSITIVE, 12, _ANY, 12, _WITHDRAW),  # RFC 8092 section 6
    (kernels.ONLY_TO_CUSTOMER, _TRANSITIVE, 4, 4, 1, _WITHDRAW),  # RFC 9234 section 5
    (kernels.PREFIX_SID, _TRANSITIVE, 0, _ANY, 1, _DISCARD),  # RFC 8669 section 6
    (kernels.ATTR_SET, _TRANSITIVE, 4, _ANY, 1, _WITHDRAW),
)
_R_FLAGS, _R_LEAST, _R_MOST, _R_STEP, _R_ACTION = range(5)
_RULE = np.zeros((256, 5), np.int64)
for _type, *_rule in _RULES:
    _RULE[_type] = _rule

# Octets that a next hop may have: an IPv4 address, one or two of IPv6, each with or without a route
# distinguisher (RFC 4760, RFC 4364, RFC 4659, RFC 8950); none where routes are not of prefixes.
_NEXT_HOP = np.zeros(256, np.bool_)
_NEXT_HOP[[0, 4, 12, 16, 24, 32, 48]] = True

_FAMILY_KEYS = np.array([family.afi << 8 | family.safi for family in FAMILIES], np.int64)
_MAY_LACK_NEXT_HOP = np.array([not family.of_prefixes for family in FAMILIES], np.bool_)


@kernel
def family_of(key: int) -> int:
    """Index in FAMILIES of AFI << 8 | SAFI, or UNKNOWN_FAMILY."""
    for f in range(_FAMILY_KEYS.size):
        if _FAMILY_KEYS[f] == key:
            return f
    return UNKNOWN_FAMILY


@kernel
def _segments_fit(buf: Bytes, pos: int, end: int, width: int) -> bool:
    """Whether segments of an AS path fill pos..end exactly (RFC 7606 section 7.2)."""
    while pos < end:
        if end - pos < 2:
            return False
        kind, count = u8(buf, pos), u8(buf, pos + 1)
        if kind < kernels.AS_SET or kind > kernels.AS_CONFED_SET or count == 0:
            return False
        pos += 2 + count * width
    return pos == end


@kernel
def _tlvs_fit(buf: Bytes, pos: int, end: int, wide: int, inclusive: int) -> bool:
    """Whether TLVs fill pos..end: type of 1 + `wide` octets, length of two that counts `inclusive`
    octets of the header.
    """
    while pos < end:
        if end - pos < 3 + wide:
            return False
        size = u16(buf, pos + 1 + wide)
        if size < inclusive:
            return False
        pos += 3 + wide + size - inclusive
    return pos == end


@kernel
def _value_fault(buf: Bytes, kind: int, pos: int, end: int, four: int) -> int:
    """The cause for which the value of a known attribute is malformed, or NONE."""
    if kind == kernels.ORIGIN:
        return causes.ORIGIN_VALUE if u8(buf, pos) > 2 else causes.NONE
    if kind == kernels.AS_PATH:
        fits = _segments_fit(buf, pos, end, 4 if four else 2)
        return causes.NONE if fits else causes.AS_PATH_SEGMENTS
    if kind == kernels.AGGREGATOR:
        return causes.NONE if end - pos == (8 if four else 6) else causes.ATTRIBUTE_LENGTH
    if kind == kernels.AS4_PATH or kind == kernels.AS4_AGGREGATOR:
        if four:
            return causes.AS4_UNEXPECTED  # RFC 6793 section 4.1
        fits = kind == kernels.AS4_AGGREGATOR or _segments_fit(buf, pos, end, 4)
        return causes.NONE if fits else causes.AS_PATH_SEGMENTS
    fits = True
    if kind == kernels.AIGP:
        fits = _tlvs_fit(buf, pos, end, 0, 3)
    elif kind == kernels.PREFIX_SID:
        fits = _tlvs_fit(buf, pos, end, 0, 0)
    elif kind == kernels.BGP_LS:
        fits = _tlvs_fit(buf, pos, end, 1, 0)
    return causes.NONE if fits else causes.TLV


@kernel
def _fault(buf: Bytes, flags: int, kind: int, pos: int, end: int, four: int) -> int:
    """The cause for which an attribute that has a rule is malformed, or NONE."""
    if flags & 0xC0 != _RULE[kind, _R_FLAGS]:
        return causes.ATTRIBUTE_FLAGS
    size = end - pos
    if size < _RULE[kind, _R_LEAST] or size > _RULE[kind, _R_MOST]:
        return causes.ATTRIBUTE_LENGTH
    step = _RULE[kind, _R_STEP]
    if step > 1 and size % step != 0:
        return causes.ATTRIBUTE_LENGTH
    return _value_fault(buf, kind, pos, end, four)


@kernel
def _unreachable(buf: Bytes, scan: Ints, i: int, pos: int, end: int) -> int:
    """Locate the routes of MP_UNREACH_NLRI; the cause for which it is malformed, or NONE."""
    if end - pos < 3:
        return causes.MP_LENGTH
    scan[i, kernels.UNREACHABLE] = pos + 3
    scan[i, kernels.UNREACHABLE + kernels.END] = end
    family = family_of(u16(buf, pos) << 8 | u8(buf, pos + 2))
    scan[i, kernels.UNREACHABLE + kernels.FAMILY] = family
    return causes.NONE


@kernel
def _next_hop_fits(size: int, family: int) -> bool:
    """Whether a next hop may have so many octets."""
    return bool(_NEXT_HOP[size] and (size > 0 or _MAY_LACK_NEXT_HOP[family]))


@kernel
def _reachable(buf: Bytes, scan: Ints, i: int, pos: int, end: int) -> int:
    """Locate next hop and routes of MP_REACH_NLRI; the cause for which it is malformed, or NONE."""
    if end - pos < 5:
        return causes.MP_LENGTH
    size = u8(buf, pos + 3)
    if size > end - pos - 5:
        return causes.MP_LENGTH
    family = family_of(u16(buf, pos) << 8 | u8(buf, pos + 2))
    if family != UNKNOWN_FAMILY and not _next_hop_fits(size, family):
        return causes.NEXT_HOP_LENGTH
    scan[i, kernels.MP_NEXT_HOP] = pos + 4
    scan[i, kernels.MP_NEXT_HOP + 1] = size
    scan[i, kernels.REACHABLE] = pos + 5 + size  # one octet is reserved
    scan[i, kernels.REACHABLE + kernels.END] = end
    scan[i, kernels.REACHABLE + kernels.FAMILY] = family
    return causes.NONE


@kernel
def _multiprotocol(buf: Bytes, scan: Ints, i: int, at: int, pos: int, end: int) -> None:
    """Check MP_REACH_NLRI or MP_UNREACH_NLRI, whose header is at `at`; every error resets the
    session, for routes cannot be withdrawn that cannot be found (RFC 7606 sections 3.j and 5.3).
    """
    if u8(buf, at) & 0xC0 != _OPTIONAL:
        cause = causes.MP_FLAGS
    elif u8(buf, at + 1) == kernels.MP_REACH_NLRI:
        cause = _reachable(buf, scan, i, pos, end)
    else:
        cause = _unreachable(buf, scan, i, pos, end)
    if cause != causes.NONE:
        note(scan, i, _RESET, cause, at, end - at)


@kernel
def _keeps(
    buf: Bytes, scan: Ints, i: int, seen: Ints, at: int, pos: int, end: int, four: int
) -> bool:
    """Whether the attribute whose header is at `at` belongs to the set that is stored."""
    flags, kind = u8(buf, at), u8(buf, at + 1)
    multiprotocol = kind == kernels.MP_REACH_NLRI or kind == kernels.MP_UNREACH_NLRI
    if seen[kind] == i:
        verdict = _RESET if multiprotocol else _DISCARD
        cause = causes.DUPLICATE_MP if multiprotocol else causes.DUPLICATE
        note(scan, i, verdict, cause, at, end - at)
        return False
    seen[kind] = i
    if multiprotocol:
        _multiprotocol(buf, scan, i, at, pos, end)
        return False
    if _RULE[kind, _R_ACTION] == 0:
        if flags & _OPTIONAL == 0:
            note(scan, i, _RESET, causes.UNKNOWN_WELL_KNOWN, at, end - at)
        return True
    cause = _fault(buf, flags, kind, pos, end, four)
    if cause != causes.NONE:
        note(scan, i, _RULE[kind, _R_ACTION], cause, at, end - at)
        return False
    if kind == kernels.NEXT_HOP_TYPE:
        scan[i, kernels.NEXT_HOP] = pos
        scan[i, kernels.NEXT_HOP + 1] = end - pos
        return False
    return True


@kernel
def _overrun(buf: Bytes, scan: Ints, i: int, at: int, end: int) -> None:
    """Record that the attribute at `at` ends behind all attributes (RFC 7606 section 4)."""
    kind = u8(buf, at + 1) if end - at >= 2 else 0
    multiprotocol = kind == kernels.MP_REACH_NLRI or kind == kernels.MP_UNREACH_NLRI
    verdict = _RESET if multiprotocol else _WITHDRAW
    note(scan, i, verdict, causes.ATTRIBUTE_OVERRUN, at, end - at)


@kernel
def walk_attributes(
    buf: Bytes, at: int, end: int, four: int, scan: Ints, i: int, seen: Ints, runs: Ints
) -> None:
    """Check the attributes in at..end of message i and locate what the message says with them.

    `seen` (256,) int64 holds by type the last message that had it. `runs` (r, 2) int64 receives
    the start and end of neighbouring attributes that are kept, scan[i, RUNS] of them; r is at least
    a sixth of the octets, plus one.
    """
    count = 0
    while at < end:
        extended = u8(buf, at) & kernels.EXTENDED_LENGTH
        header = 4 if extended else 3
        if end - at < header:
            _overrun(buf, scan, i, at, end)
            break
        pos = at + header
        size = u16(buf, at + 2) if extended else u8(buf, at + 2)
        if size > end - pos:
            _overrun(buf, scan, i, at, end)
            break
        if _keeps(buf, scan, i, seen, at, pos, pos + size, four):
            if count > 0 and runs[count - 1, 1] == at:
                runs[count - 1, 1] = pos + size
            else:
                runs[count, 0] = at
                runs[count, 1] = pos + size
                count += 1
        at = pos + size
    scan[i, kernels.RUNS] = count
