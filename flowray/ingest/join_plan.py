"""How flows are joined with routes: what the configuration says of it, compiled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from flowray.ingest.ladder import FallBack
from flowray.ingest.route_texts import CommunityAs, Shape
from flowray.intervals import AddressSet
from flowray.maps import AgentMap
from flowray.networks import Networks

Method = Literal["flows", "routes", "longest"]
"""Who tells AS numbers, or networks and next hops: the record alone, routes alone, or whoever has
the longer prefix, at equal length routes, then the record, then the networks file.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Follow:
    """How far next hops are followed: as long as they are in `within`, and at most `hops` times.

    `external` takes the first next hop that is not, else it is the last one that is.
    """

    within: AddressSet
    hops: int
    external: bool


@dataclass(frozen=True, slots=True, eq=False)
class JoinPlan:
    """How flows are joined. `fall_back_names` are of `fall_backs`, for the field of rungs."""

    as_numbers: Method = "longest"
    networks: Method = "longest"
    peer_source_as: bool = False
    skip_confederations: bool = False
    fall_backs: tuple[FallBack, ...] = ()
    fall_back_names: tuple[str, ...] = ()
    agents: AgentMap | None = None
    networks_file: Networks | None = None
    follow: Follow | None = None
    shape: Shape = field(default_factory=Shape)
    community_as: CommunityAs = field(default_factory=CommunityAs)

    @property
    def needs(self) -> frozenset[str]:
        """Fields that are read, beside `NEEDS`."""
        return frozenset() if self.agents is None else self.agents.fields
