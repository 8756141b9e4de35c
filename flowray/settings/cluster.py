"""Options of `cluster`: how the work is spread over the nodes and actors of a Ray cluster."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from flowray.settings.base import Model, UdpUrl
from flowray.settings.quantities import Duration, Octets

SECOND = 1_000_000_000

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
"""Something of the node in an address: {node_ip}, or the value of one of its labels."""


class ShardBounds(Model):
    """Shards that a node has at least and at most; auto: one a core, less one."""

    min: int = Field(default=1, ge=1, le=1024)
    max: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"

    @field_validator("max")
    @classmethod
    def _above(cls, most: int | Literal["auto"], info: ValidationInfo) -> int | Literal["auto"]:
        if most != "auto" and most < info.data.get("min", 1):
            raise ValueError("auto, or a number not below min")
        return most


def _shards(value: Any) -> Any:
    # Before the union is tried: its errors are told at places that no configuration has.
    if isinstance(value, dict):
        return ShardBounds.model_validate(value)
    if (
        not isinstance(value, ShardBounds)
        and value != "auto"
        and (type(value) is not int or value < 1)
    ):
        raise ValueError("auto, a number from 1 on, or {min: 1, max: 4}")
    return value


Shards = Annotated[int | Literal["auto"] | ShardBounds, BeforeValidator(_shards)]


def _node_url(value: str) -> str:
    try:
        _UDP_URL.validate_python(PLACEHOLDER.sub("192.0.2.1", value))
    except ValidationError:
        raise ValueError("udp://ADDRESS:PORT, such as udp://{node_ip}:2055") from None
    return value


_UDP_URL: TypeAdapter[str] = TypeAdapter(UdpUrl)


Labels = dict[str, str]
NodeUrl = Annotated[str, AfterValidator(_node_url)]


class NodeRule(Model):
    """What nodes do that have all of these labels, and this host name if one is given."""

    labels: Labels = {}
    host: str | None = None
    listen: list[NodeUrl] = []
    shards: Shards | None = None


class Cluster(Model):
    """How the work is spread over Ray actors."""

    address: str | None = None
    nodes: list[NodeRule] = []
    shards: Shards = "auto"
    aggregators: Labels = {}
    node_grace: Annotated[Duration, Field(ge=0)] = 10 * SECOND
    hand_over: Annotated[Duration, Field(ge=1_000_000)] = SECOND
    shard_memory: Octets = 1 << 30
    object_store: Octets = 256 << 20
    dashboard: bool = True
