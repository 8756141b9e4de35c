"""Who told routes: the peers whose tables a RIB holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal


class PolicyView(IntEnum):
    """Which of a router's tables a BMP peer shows (RFC 7854, RFC 8671, RFC 9069). What a BGP
    session tells is our Adj-RIB-In before policy.
    """

    ADJ_RIB_IN_PRE = 0
    ADJ_RIB_IN_POST = 1
    LOC_RIB = 2
    ADJ_RIB_OUT_PRE = 3
    ADJ_RIB_OUT_POST = 4

    @property
    def label(self) -> str:
        """Its name in configuration and looking glass."""
        return self.name.lower().replace("_", "-")


def policy_view(is_post: bool, is_out: bool, is_loc: bool) -> PolicyView:
    """The view that the flags of a BMP peer tell."""
    if is_loc:
        return PolicyView.LOC_RIB
    if is_out:
        return PolicyView.ADJ_RIB_OUT_POST if is_post else PolicyView.ADJ_RIB_OUT_PRE
    return PolicyView.ADJ_RIB_IN_POST if is_post else PolicyView.ADJ_RIB_IN_PRE


RD_INSTANCE_PEER, LOC_RIB_PEER = 1, 3
"""BMP peer types whose distinguisher is the route distinguisher of a routing instance."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Identity and facts of a peer.

    `router` and `port` are where the session came from (port 0: out of a file), `address` is the
    BGP peer: of a BGP session the router itself, of a BMP session whom the router monitors.
    `distinguisher` is the peer distinguisher of BMP, the octets of a route distinguisher as a
    big-endian number.
    """

    protocol: Literal["bgp", "bmp"]
    router: str
    port: int
    address: str
    bgp_id: str
    asn: int
    view: PolicyView = PolicyView.ADJ_RIB_IN_PRE
    peer_type: int = 0
    distinguisher: int = 0
    is_filtered: bool = False

    @property
    def identity(self) -> tuple[str, str, str, str, int, int, PolicyView]:
        """What stays the same when it comes back."""
        return (
            self.protocol, self.router, self.address, self.bgp_id, self.peer_type,
            self.distinguisher, self.view,
        )  # fmt: skip

    @property
    def instance_rd(self) -> int:
        """RD of the routing instance that its unicast routes belong to; 0 for the global one, to
        which labeled routes always belong.
        """
        return self.distinguisher if self.peer_type in (RD_INSTANCE_PEER, LOC_RIB_PEER) else 0
