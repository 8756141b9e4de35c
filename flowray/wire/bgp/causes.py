"""Why an UPDATE is not taken as it stands: numbers for compiled loops, texts for people.

The numbers index `TEXTS` and `SUBCODES`: a NOTIFICATION "UPDATE Message Error" (code 3) for that
cause has this subcode (RFC 4271 section 6.3, RFC 4760 section 7).
"""

from __future__ import annotations

NONE = 0
MESSAGE_LENGTH = 1
WITHDRAWN_LENGTH = 2
ATTRIBUTES_LENGTH = 3
ATTRIBUTE_OVERRUN = 4
ATTRIBUTE_FLAGS = 5
ATTRIBUTE_LENGTH = 6
DUPLICATE = 7
DUPLICATE_MP = 8
UNKNOWN_WELL_KNOWN = 9
MISSING = 10
ORIGIN_VALUE = 11
AS_PATH_SEGMENTS = 12
AS4_UNEXPECTED = 13
TLV = 14
MP_LENGTH = 15
MP_FLAGS = 16
NEXT_HOP_LENGTH = 17
WITHDRAWN_ROUTES = 18
UNREACHABLE_NLRI = 19
NLRI = 20
REACHABLE_NLRI = 21
UNKNOWN_FAMILY_CAUSE = 22

_ROWS = (
    (NONE, "", 0),
    (MESSAGE_LENGTH, "message is too short for an UPDATE", 1),
    (WITHDRAWN_LENGTH, "Withdrawn Routes Length exceeds the message", 1),
    (ATTRIBUTES_LENGTH, "Total Path Attribute Length exceeds the message", 1),
    (ATTRIBUTE_OVERRUN, "path attribute exceeds the Total Path Attribute Length", 1),
    (ATTRIBUTE_FLAGS, "attribute flags conflict with the attribute type", 4),
    (ATTRIBUTE_LENGTH, "attribute length conflicts with the attribute type", 5),
    (DUPLICATE, "attribute appears more than once", 1),
    (DUPLICATE_MP, "MP_REACH_NLRI or MP_UNREACH_NLRI appears more than once", 1),
    (UNKNOWN_WELL_KNOWN, "unrecognized well-known attribute", 2),
    (MISSING, "well-known mandatory attribute is missing", 3),
    (ORIGIN_VALUE, "undefined ORIGIN", 6),
    (AS_PATH_SEGMENTS, "malformed segments of an AS path", 11),
    (AS4_UNEXPECTED, "AS4_PATH or AS4_AGGREGATOR from a four-octet AS speaker", 9),
    (TLV, "TLVs do not fill the attribute", 9),
    (MP_LENGTH, "MP_REACH_NLRI or MP_UNREACH_NLRI is too short", 9),
    (MP_FLAGS, "flags of MP_REACH_NLRI or MP_UNREACH_NLRI", 9),
    (NEXT_HOP_LENGTH, "length of the next hop in MP_REACH_NLRI", 9),
    (WITHDRAWN_ROUTES, "malformed Withdrawn Routes", 10),
    (UNREACHABLE_NLRI, "malformed NLRI in MP_UNREACH_NLRI", 9),
    (NLRI, "malformed Network Layer Reachability Information", 10),
    (REACHABLE_NLRI, "malformed NLRI in MP_REACH_NLRI", 9),
    (UNKNOWN_FAMILY_CAUSE, "unknown address family", 0),
)

TEXTS: tuple[str, ...] = tuple(text for _, text, _ in _ROWS)
SUBCODES: tuple[int, ...] = tuple(subcode for _, _, subcode in _ROWS)
