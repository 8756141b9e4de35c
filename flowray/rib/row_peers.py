"""Peers as their rows show them: what is the same in all rows of a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flowray.rib.peers import PolicyView

__all__ = ["BgpPeer", "BmpPeer"]


def _view(text: str, **marks: int) -> dict[str, object]:
    return {"bmp_rib_type": text, **marks}


_VIEWS: Final[dict[PolicyView, dict[str, object]]] = {
    PolicyView.ADJ_RIB_IN_PRE: _view("Adj-Rib-In Pre-Policy", is_in=1, is_post=0),
    PolicyView.ADJ_RIB_IN_POST: _view("Adj-Rib-In Post-Policy", is_in=1, is_post=1),
    PolicyView.LOC_RIB: _view("Loc-Rib", is_loc=1),
    PolicyView.ADJ_RIB_OUT_PRE: _view("Adj-Rib-Out Pre-Policy", is_out=1, is_post=0),
    PolicyView.ADJ_RIB_OUT_POST: _view("Adj-Rib-Out Post-Policy", is_out=1, is_post=1),
}

_PEER_TYPES: Final = (
    "Global Instance Peer",
    "RD Instance Peer",
    "Local Instance Peer",
    "Loc-RIB Instance Peer",
)


@dataclass(frozen=True, slots=True)
class BgpPeer:
    """A BGP session as its rows show it; `label` as in flow rows: `key%value,key%value`."""

    address: str
    port: int = 0
    bgp_id: str | None = None
    tag: int | None = None
    label: str | None = None

    @property
    def columns(self) -> dict[str, object]:
        """Values by field."""
        return {
            "peer_ip_src": self.address,
            "peer_tcp_port": self.port,
            "peer_id": self.bgp_id,
            "tag": self.tag,
            "label": self.label,
        }


@dataclass(frozen=True, slots=True)
class BmpPeer:
    """One table of one peer of a monitored router, as its rows show it.

    `filtered` is the F flag of the message (RFC 9069 section 4.2); `router`, `port`, `tag` and
    `label` are of the BMP session.
    """

    router: str
    port: int
    address: str
    asn: int
    bgp_id: str
    view: PolicyView
    peer_type: int = 0
    filtered: bool = False
    tag: int | None = None
    label: str | None = None

    @property
    def columns(self) -> dict[str, object]:
        """Values by field."""
        named = self.peer_type < len(_PEER_TYPES)
        return {
            "bmp_router": self.router,
            "bmp_router_port": self.port,
            "peer_ip": self.address,
            "peer_asn": self.asn,
            "bgp_id": self.bgp_id,
            "peer_type": self.peer_type,
            "peer_type_str": _PEER_TYPES[self.peer_type] if named else "",
            "is_filtered": int(self.filtered),
            "tag": self.tag,
            "label": self.label,
            **_VIEWS[self.view],
        }
