"""What we say in our OPEN, and what holds for a session once both have said theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from ipaddress import IPv4Address
from operator import or_
from typing import Final

import numpy as np

from flowray.wire.bgp import capabilities as caps
from flowray.wire.bgp.capabilities import AddPath, Capability, CapabilityCode, ExtendedNextHop
from flowray.wire.bgp.events import Contexts
from flowray.wire.bgp.families import FAMILIES, UNKNOWN_FAMILY, family_index
from flowray.wire.bgp.message_kernels import PLAIN_LIMIT
from flowray.wire.bgp.messages import EXTENDED_LIMIT, ErrorCode, MessageError
from flowray.wire.bgp.open import Open, two_octet_as

_RECEIVE = 1
_BAD_IDENTIFIER = 3
_IPV6 = 2
_NEXT_HOP_FAMILIES: Final = ((1, 1), (1, 2), (1, 4), (1, 128))  # RFC 8950 section 3


@dataclass(frozen=True, slots=True)
class BgpSettings:
    """How we speak BGP. `local_as` 0 takes the peer's AS number, which makes the session internal.

    `hold_time_s` is 0 for no keepalives, or at least 3; the shorter of ours and the peer's holds.
    A peer that is not established after `open_timeout_s` is given up. A recording does not answer
    (`expect_answers` false): then no timer ends the session.
    """

    router_id: IPv4Address
    local_as: int = 0
    hold_time_s: int = 180
    open_timeout_s: int = 60
    add_path: bool = True
    expect_answers: bool = True


@dataclass(frozen=True, slots=True)
class Restart:
    """What the peer says of graceful restart (RFC 4724, RFC 9494), families by index.

    `restarted`: its restart is why this session is new. Within `time_s` seconds of a loss it means
    to be back; `families` can be kept so long, `preserved` are those of them whose forwarding went
    on. `long_lived` has pairs of a family and the seconds for which its stale routes may be kept.
    """

    restarted: bool
    notification: bool
    time_s: int
    families: tuple[int, ...]
    preserved: tuple[int, ...]
    long_lived: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What holds for a session; families by index in `FAMILIES`, ascending.

    `add_path` has bit *f* set if NLRI of family *f* begin with a path identifier. `hold_time_s` 0:
    no keepalives. `restart` is None without graceful restart.
    """

    local_as: int
    peer_as: int
    hold_time_s: int
    four_octets: bool
    families: tuple[int, ...]
    add_path: int
    extended_next_hop: tuple[int, ...]
    extended_messages: bool
    route_refresh: bool
    enhanced_refresh: bool
    restart: Restart | None

    @property
    def limit(self) -> int:
        """Octets of the longest message."""
        return EXTENDED_LIMIT if self.extended_messages else PLAIN_LIMIT

    def contexts(self) -> Contexts:
        """`Contexts` of one row, that of this session."""
        return Contexts(
            np.array([self.four_octets], np.bool_), np.array([self.add_path], np.uint64)
        )


def our_open(settings: BgpSettings, local_as: int) -> Open:
    """Our OPEN: all families of `FAMILIES`, and everything of `capabilities` that concerns who
    only receives.
    """
    offered = [
        *(caps.multiprotocol(f.afi, f.safi) for f in FAMILIES),
        caps.flag(CapabilityCode.ROUTE_REFRESH),
        caps.flag(CapabilityCode.ENHANCED_ROUTE_REFRESH),
        caps.flag(CapabilityCode.EXTENDED_MESSAGE),
        caps.extended_next_hop(ExtendedNextHop(*f, _IPV6) for f in _NEXT_HOP_FAMILIES),
        caps.graceful_restart_helper(),
        caps.four_octet_as(local_as),
        *_add_path_offer(settings),
    ]
    return Open(two_octet_as(local_as), settings.hold_time_s, settings.router_id, tuple(offered))


def _add_path_offer(settings: BgpSettings) -> list[Capability]:
    if not settings.add_path:
        return []
    return [caps.add_path(AddPath(f.afi, f.safi, _RECEIVE) for f in FAMILIES if f.of_prefixes)]


def negotiate(settings: BgpSettings, theirs: Open) -> Negotiated:
    """What holds after their OPEN and ours. Raises MessageError if there can be no session."""
    local_as = settings.local_as or theirs.peer_as
    if local_as == theirs.peer_as and theirs.bgp_id == settings.router_id:  # RFC 6286 section 2.2
        reason = f"an OPEN with our own BGP identifier {theirs.bgp_id} from our own AS"
        raise MessageError(ErrorCode.OPEN_MESSAGE, _BAD_IDENTIFIER, b"", reason)
    families = _known((f.afi, f.safi) for f in theirs.families)
    refresh = theirs.has(CapabilityCode.ROUTE_REFRESH)
    enhanced = theirs.has(CapabilityCode.ENHANCED_ROUTE_REFRESH)
    return Negotiated(
        local_as=local_as,
        peer_as=theirs.peer_as,
        hold_time_s=min(settings.hold_time_s, theirs.hold_time_s),
        four_octets=theirs.four_octets,
        families=families,
        add_path=_add_path(settings, theirs, families),
        extended_next_hop=_extended_next_hop(theirs, families),
        extended_messages=theirs.has(CapabilityCode.EXTENDED_MESSAGE),
        route_refresh=refresh or enhanced,
        enhanced_refresh=enhanced,
        restart=_restart(theirs, families),
    )


def _known(numbers: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Indices of the families that we know, each once."""
    found = {family_index(afi, safi) for afi, safi in numbers}
    return tuple(sorted(found - {UNKNOWN_FAMILY}))


def _add_path(settings: BgpSettings, theirs: Open, families: tuple[int, ...]) -> int:
    """Of several records of a family the last counts."""
    if not settings.add_path:
        return 0
    sends = {family_index(r.afi, r.safi): r.mode in (2, 3) for r in theirs.add_path}
    agreed = (f for f in families if FAMILIES[f].of_prefixes and sends.get(f))
    return reduce(or_, (1 << f for f in agreed), 0)


def _extended_next_hop(theirs: Open, families: tuple[int, ...]) -> tuple[int, ...]:
    offered = ((r.afi, r.safi) for r in theirs.extended_next_hop if r.nexthop_afi == _IPV6)
    return _known(set(offered) & {*_NEXT_HOP_FAMILIES} & {_numbers(f) for f in families})


def _numbers(family: int) -> tuple[int, int]:
    return FAMILIES[family].afi, FAMILIES[family].safi


def _restart(theirs: Open, families: tuple[int, ...]) -> Restart | None:
    told = theirs.graceful_restart
    if told is None:
        return None
    kept = {family_index(r.afi, r.safi): r.preserved for r in told.families}
    stale = {family_index(r.afi, r.safi): r.stale_time_s for r in theirs.long_lived}
    return Restart(
        restarted=told.restarted,
        notification=told.notification,
        time_s=told.restart_time_s,
        families=tuple(f for f in families if f in kept),
        preserved=tuple(f for f in families if kept.get(f)),
        long_lived=tuple((f, stale[f]) for f in families if f in stale),
    )
