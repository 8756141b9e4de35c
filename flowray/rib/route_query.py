"""What may be asked of tables of routes: conditions, read from what operators write."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from flowray.errors import FlowrayError
from flowray.rib.table import Scope
from flowray.wire.bgp.attributes import AttributeType
from flowray.wire.bgp.communities import WELL_KNOWN, Large
from flowray.wire.bgp.distinguisher import rd_number
from flowray.wire.bgp.families import FAMILIES, UNKNOWN_FAMILY, family_index
from flowray.wire.packets import address_text, address_words

__all__ = [
    "GLOBAL",
    "Community",
    "Place",
    "QueryError",
    "RouteQuery",
    "UnknownPeerError",
    "lookup_query",
    "read_query",
]

GLOBAL: Final = 0
"""Route distinguisher that stands for the global table: routes without one."""


_MOST_SHOWN: Final = 100


class QueryError(FlowrayError):
    """A question that makes no sense, or that nobody here can answer."""


class UnknownPeerError(QueryError):
    """A question about a peer that is not here; another RIB group may have it."""


class Place(NamedTuple):
    """Prefixes in some relation to one: its address words and length in bits."""

    scope: Scope
    hi: int
    lo: int
    plen: int


@dataclass(frozen=True, slots=True)
class Community:
    """A community by the attribute that would hold it; `value` is its number, its three numbers, or
    the text of an extended one.
    """

    kind: AttributeType
    value: int | Large | str


@dataclass(frozen=True, slots=True)
class RouteQuery:
    """Conditions that a route must meet, all of them; None or empty ones every route meets.

    - `peer`: address of the peer or of its router
    - `rd`: route distinguisher, GLOBAL for routes without
    - `family`: index in `FAMILIES`
    - `as_path`: RE2 pattern, searched in the text of the AS path
    - `longest`: of the routes that are left of a table and route distinguisher those of the longest
      prefix
    - `limit`: routes at most, 0 for all
    """

    peer: str = ""
    place: Place | None = None
    rd: int | None = None
    family: int | None = None
    as_path: str = ""
    communities: tuple[Community, ...] = ()
    longest: bool = False
    limit: int = 0


def lookup_query(
    address: str, *, peer: str = "", rd: str = "", everything: bool = False
) -> RouteQuery:
    """The routes that an address (or prefix) is matched by, the longest match of each table or
    `everything`. Raises QueryError.
    """
    if not address:
        raise QueryError("look-up: found no address")
    place = _place(Scope.COVERING, address)
    return RouteQuery(_peer(peer), place, _distinguisher(rd), longest=not everything)


def read_query(
    *,
    peer: str = "",
    prefix: str = "",
    longer: bool = False,
    as_path: str = "",
    communities: Sequence[str] = (),
    rd: str = "",
    family: str = "",
    limit: int = 0,
) -> RouteQuery:
    """The conditions that operators write; empty ones are none. `longer` takes in what is inside
    the prefix. Raises QueryError.
    """
    if longer and not prefix:
        raise QueryError("longer: found no prefix beside it")
    return RouteQuery(
        peer=_peer(peer),
        place=_place(Scope.LONGER if longer else Scope.EXACT, prefix) if prefix else None,
        rd=_distinguisher(rd),
        family=_family(family),
        as_path=_pattern(as_path),
        communities=tuple(map(read_community, communities)),
        limit=limit,
    )


def _shown(text: str) -> str:
    """What an operator wrote, on one line of bounded length."""
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")


def _peer(text: str) -> str:
    if not text:
        return ""
    try:
        return address_text(*address_words(text))
    except ValueError:
        raise QueryError(f"peer: found {_shown(text)}, allowed an address") from None


def _place(scope: Scope, text: str) -> Place:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise QueryError(f"prefix: found {_shown(text)}, allowed an address or a prefix") from None
    return Place(scope, *address_words(str(network.network_address)), network.prefixlen)


def _distinguisher(text: str) -> int | None:
    """`0:64496:1`, or without the type; the type is that of the first number's form."""
    if not text:
        return None
    if text == "global":
        return GLOBAL
    number = rd_number(text)
    for kind in (0, 1, 2) if text.count(":") == 1 else ():
        number = rd_number(f"{kind}:{text}") if number is None else number
    if number is None:
        allowed = "global, 64496:1, 192.0.2.1:1 or with the type in front, 0:64496:1"
        raise QueryError(f"route distinguisher: found {_shown(text)}, allowed {allowed}")
    return number


def _family(text: str) -> int | None:
    if not text:
        return None
    names = {_plain(family.name): family.index for family in FAMILIES}
    index = names.get(_plain(text), UNKNOWN_FAMILY)
    if numbers := re.fullmatch(r"(\d{1,5})/(\d{1,3})", text):
        index = family_index(int(numbers[1]), int(numbers[2]))
    if index == UNKNOWN_FAMILY:
        allowed = ", ".join(family.name for family in FAMILIES)
        raise QueryError(f"family: found {_shown(text)}, allowed AFI/SAFI or {allowed}")
    return index


def _plain(name: str) -> str:
    return name.lower().replace("-", " ")


_BORDER: Final = r"(?:^|$|[ ,{}()\[\]])"


def _pattern(text: str) -> str:
    """A pattern for RE2: of routers' patterns `_` is a border between AS numbers."""
    pattern = text.replace("_", _BORDER)
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        reason = _shown(str(error).removeprefix("Invalid regular expression: "))
        raise QueryError(
            f"AS path: found {_shown(text)}, no regular expression: {reason}"
        ) from None
    return pattern


def read_community(text: str) -> Community:
    """A community as rows show it: `64496:1`, `64496:1:2`, `RT:64496:1`, `no-export`, `0x…`.

    Raises QueryError for what cannot be one.
    """
    known = {name: number for number, name in WELL_KNOWN.items()}
    if text in known:
        return Community(AttributeType.COMMUNITIES, known[text])
    parts = text.split(":")
    if all(part.isdecimal() for part in parts):
        numbers = [int(part) for part in parts]
        if len(numbers) == 2 and max(numbers) < 1 << 16:
            return Community(AttributeType.COMMUNITIES, numbers[0] << 16 | numbers[1])
        if len(numbers) == 3 and max(numbers) < 1 << 32:
            return Community(AttributeType.LARGE_COMMUNITY, (numbers[0], numbers[1], numbers[2]))
    elif ":" in text or re.fullmatch("0x[0-9a-f]{16}", text):
        return Community(AttributeType.EXTENDED_COMMUNITIES, text)
    allowed = "64496:1, 64496:1:2, RT:64496:1 or " + ", ".join(known)
    raise QueryError(f"community: found {_shown(text)}, allowed {allowed}")
