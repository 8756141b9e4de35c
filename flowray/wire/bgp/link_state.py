"""BGP-LS: NLRI of nodes, links and prefixes, and the attribute of each (RFC 9552).

Keys are pmacct's where it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from socket import AF_INET6, inet_ntoa, inet_ntop
from struct import unpack
from typing import Any, Final, TypeAlias

from flowray.wire.bgp.prefix_sid import tlvs

__all__ = ["link_state_attribute", "read_link_state"]

Fields: TypeAlias = dict[str, object]
_Read: TypeAlias = Callable[[bytes], Any]

_TYPES: Final = {1: "node", 2: "link", 3: "ipv4 prefix", 4: "ipv6 prefix", 6: "srv6 sid"}
_PROTOCOLS: Final = {
    1: "IS-IS Level 1",
    2: "IS-IS Level 2",
    3: "OSPFv2",
    4: "Direct",
    5: "Static",
    6: "OSPFv3",
    7: "BGP",
}
"""BGP-LS NLRI Types and Protocol-IDs (IANA)."""

_LOCAL_NODE: Final = 256
_REMOTE_NODE: Final = 257
_REACHABILITY: Final = 265
_ROUTER_ID: Final = 515
_NODES: Final = {_LOCAL_NODE: "local", _REMOTE_NODE: "remote"}


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _address(raw: bytes) -> str | None:
    if len(raw) == 4:
        return inet_ntoa(raw)
    return inet_ntop(AF_INET6, raw) if len(raw) == 16 else None


def _four(raw: bytes) -> int | None:
    return _number(raw) if len(raw) == 4 else None


def _topologies(raw: bytes) -> list[int] | None:
    """Multi-topology identifiers of twelve bits (section 5.2.2.1)."""
    if not raw or len(raw) % 2:
        return None
    return [_number(raw[i : i + 2]) & 0xFFF for i in range(0, len(raw), 2)]


def _link_ids(raw: bytes) -> list[int] | None:
    """Identifiers of a link at its near and far end (RFC 5307 section 1.1)."""
    return [_number(raw[:4]), _number(raw[4:])] if len(raw) == 8 else None


def _router_id(raw: bytes) -> str | None:
    """IGP router identifier by its length (section 5.2.1.4): of IS-IS six octets, with that of a
    pseudonode seven; of OSPF four, with the interface of the designated router eight.
    """
    if len(raw) in (6, 7):
        system = ".".join(raw[i : i + 2].hex() for i in (0, 2, 4))
        return f"{system}-{raw[6]:02x}" if len(raw) == 7 else system
    if len(raw) == 8:
        return f"{inet_ntoa(raw[:4])}-{inet_ntoa(raw[4:])}"
    return _address(raw)


_NODE: Final[dict[int, tuple[str, _Read]]] = {
    512: ("asn", _four),
    513: ("bgp_ls_id", _four),
    514: ("area_id", lambda raw: inet_ntoa(raw) if len(raw) == 4 else None),
    _ROUTER_ID: ("igp_rtr_id", _router_id),
    516: ("bgp_rtr_id", lambda raw: inet_ntoa(raw) if len(raw) == 4 else None),
    517: ("confed_asn", _four),
}
"""Node descriptors (section 5.2.1)."""

_DESCRIPTORS: Final[dict[int, tuple[str, _Read]]] = {
    258: ("link_ids", _link_ids),
    259: ("local_addr", _address),
    260: ("neigh_addr", _address),
    261: ("local_addr", _address),
    262: ("neigh_addr", _address),
    263: ("mt_ids", _topologies),
    264: ("ospf_route_type", lambda raw: raw[0] if len(raw) == 1 else None),
    518: ("sid", _address),
}
"""Link and prefix descriptors (sections 5.2.2 and 5.2.3), and the SID of RFC 9514 section 6."""


def _reachability(raw: bytes, octets: int) -> str | None:
    """A prefix: length in bits, then the octets that it needs (section 5.2.3.2)."""
    if not raw or raw[0] > 8 * octets or len(raw) - 1 < (raw[0] + 7) // 8:
        return None
    address = raw[1 : 1 + octets].ljust(octets, b"\x00")
    return f"{_address(address)}/{raw[0]}"


def _node(prefix: str, body: bytes) -> Iterator[tuple[str, object]]:
    for kind, value in tlvs(body, 2):
        name, read = _NODE.get(kind, (f"{kind}", bytes.hex))
        content = read(value)
        yield f"{prefix}_{name}", value.hex() if content is None else content
        if kind == _ROUTER_ID and len(value) in (7, 8):
            yield "pseudonode", "true"


def _descriptors(nlri_type: int, body: bytes) -> Iterator[tuple[str, object]]:
    for kind, value in tlvs(body, 2):
        if kind in _NODES:
            yield from _node(_NODES[kind], value)
        elif kind == _REACHABILITY:
            yield "ip_reach", _reachability(value, 4 if nlri_type == 3 else 16) or value.hex()
        else:
            name, read = _DESCRIPTORS.get(kind, (f"descriptor_{kind}", bytes.hex))
            content = read(value)
            yield name, value.hex() if content is None else content


def read_link_state(raw: bytes, *, vpn: bool) -> tuple[str, int, Fields]:
    """An NLRI with its type and length in front: text, route distinguisher (0 without one), and
    descriptors by JSON key.

    The text has every descriptor, for all of them tell one object from another; of those that stand
    several times (a link may have addresses of both families) the last is in the fields. Raises
    ValueError for what is cut off.
    """
    at = 12 if vpn else 4
    if len(raw) < at + 9 or 4 + _number(raw[2:4]) != len(raw):
        raise ValueError("cut off")
    kind, protocol = _number(raw[:2]), raw[at]
    told = [
        ("nlri_type", _TYPES.get(kind, kind)),
        ("proto", _PROTOCOLS.get(protocol, protocol)),
        ("identifier", _number(raw[at + 1 : at + 9])),
        *_descriptors(kind, raw[at + 9 :]),
    ]
    text = ", ".join(f"{name} {value}" for name, value in told)
    return text, _number(raw[4:12]) if vpn else 0, dict(told)


# --------------------------------------------------------------------------------------- attribute


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _hexadecimal(raw: bytes) -> str | None:
    return f"{_number(raw):x}" if len(raw) == 4 else None


def _words(raw: bytes) -> list[str] | None:
    """Numbers of 32 bits in hexadecimal."""
    if len(raw) % 4:
        return None
    return [f"{_number(raw[i : i + 4]):x}" for i in range(0, len(raw), 4)]


def _bandwidth(raw: bytes) -> int | None:
    """Octets a second as a float of 32 bits (RFC 5305 section 3.4) as bits a second."""
    if len(raw) != 4:
        return None
    (octets,) = unpack("!f", raw)
    return int(octets * 8) if 0 <= octets < float("inf") else None


def _bandwidths(raw: bytes) -> list[int] | None:
    if len(raw) % 4:
        return None
    read = [_bandwidth(raw[i : i + 4]) for i in range(0, len(raw), 4)]
    known = [value for value in read if value is not None]
    return known if len(known) == len(read) else None


def _metric(raw: bytes) -> int | None:
    """IGP metric of six bits, two octets or three (section 5.3.2.4)."""
    if len(raw) == 1:
        return raw[0] & 0x3F
    return _number(raw) if len(raw) in (2, 3) else None


def _depths(raw: bytes) -> list[str] | None:
    """Maximum SID depths: type and value (RFC 8814)."""
    if len(raw) % 2:
        return None
    return [raw[i : i + 2].hex() for i in range(0, len(raw), 2)]


_ATTRIBUTE: Final[dict[int, tuple[str, _Read]]] = {
    266: ("attr_node_msd", _depths),
    267: ("attr_link_msd", _depths),
    1024: ("attr_node_flags", lambda raw: f"{raw[0]:x}" if len(raw) == 1 else None),
    1026: ("attr_node_name", _text),
    1027: ("attr_isis_area_id", lambda raw: [raw.hex()]),
    1028: ("attr_v4_rid_local", _address),
    1029: ("attr_v6_rid_local", _address),
    1030: ("attr_v4_rid_remote", _address),
    1031: ("attr_v6_rid_remote", _address),
    1088: ("attr_admin_group", _hexadecimal),
    1089: ("attr_max_bw", _bandwidth),
    1090: ("attr_max_resv_bw", _bandwidth),
    1091: ("attr_unresv_bw", _bandwidths),
    1092: ("attr_te_df_metric", _four),
    1095: ("attr_igp_metric", _metric),
    1098: ("attr_link_name", _text),
    1155: ("attr_prefix_metric", _four),
    1173: ("attr_ext_admin_groups", _words),
}
"""Attribute TLVs (section 5.3): key, and reading of the value."""


def link_state_attribute(value: bytes) -> Fields:
    """The BGP-LS attribute by JSON key; of what cannot be read the octets in hexadecimal.

    Never raises; ends at a length that overruns. Of TLVs that stand several times, lists are joined
    and else the last counts.
    """
    fields: Fields = {}
    for kind, body in tlvs(value, 2):
        name, read = _ATTRIBUTE.get(kind, (f"attr_{kind}", bytes.hex))
        content = read(body)
        known = fields.get(name)
        if isinstance(known, list) and isinstance(content, list):
            known += content
        else:
            fields[name] = body.hex() if content is None else content
    return fields
