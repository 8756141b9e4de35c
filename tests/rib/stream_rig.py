"""Streams that are kept in memory, and their rows as the JSON writer gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from flowray.rib.streams import Stream
from flowray.route_fields import Protocol, route_fields
from flowray.sinks.base import MemorySink
from flowray.sinks.encoding import Encoding
from flowray.sinks.render import render_batches

PLAIN = Encoding(records="plain", timestamps="epoch", precision="ns")
NAMES = ("bgp_log", "bmp_log", "bgp_dump", "bmp_dump")


class KeptStreams:
    """Streams with a sink in memory each."""

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self.sinks = {name: MemorySink() for name in names}
        self.streams = {name: Stream(name, [sink]) for name, sink in self.sinks.items()}

    def rows(self, name: str) -> list[dict[str, Any]]:
        """What has been stored."""
        protocol: Protocol = "bgp" if name.startswith("bgp") else "bmp"
        tables = list(self.sinks[name].tables.values())
        if not tables:
            return []
        fields = route_fields(protocol)
        batches = render_batches(pa.concat_tables(tables), fields, PLAIN)
        return [row for batch in batches for row in batch.to_pylist()]
