"""An aggregation that is fed by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink, Sink
from flowray.state.store import open_store
from flowray.views.aggregation import Aggregation, Receipt
from flowray.views.checkpoint import Checkpoint
from flowray.views.view import Partial, ViewPlan

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def plan(keys: Sequence[str] = ("src_port", "label"), **view: Any) -> ViewPlan:
    content = {"views": [{"name": "v", "keys": list(keys), "window": "10s", **view}]}
    return compile_settings(parse_settings(content, "test"), "test").views[0]


def rows(*ports: int, window: int = START, revision: int = 0, label: bytes = b"a") -> pa.Table:
    n = len(ports)
    return pa.table(
        {
            "src_port": pa.array(ports, pa.uint16()),
            "label": pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), [label]),
            "packets": pa.array([10] * n, pa.uint64()),
            "bytes": pa.array([100] * n, pa.uint64()),
            "flows": pa.array([1] * n, pa.uint64()),
            "_records": pa.array([1] * n, pa.uint64()),
            "_window": pa.array([window] * n, pa.int64()),
            "_revision": pa.array([revision] * n, pa.uint32()),
            "_others": pa.array([False] * n),
        }
    )


class Rig:
    """An aggregation that can be lost and started again, with a clock that is set by hand."""

    def __init__(
        self,
        path: Path | str,
        view: ViewPlan | None = None,
        sink: MemorySink | None = None,
        sinks: Mapping[str, Sink] | None = None,
        **options: Any,
    ) -> None:
        self.now = START
        self.view = view or plan()
        self.sink = sink or MemorySink()
        self.sinks = sinks or {"memory": self.sink}
        self.options = options
        self.checkpoint = Checkpoint(open_store(path), "c")
        self.start()

    def start(self) -> None:
        self.now += 1  # another incarnation
        self.aggregation = Aggregation(
            self.view,
            self.sinks,
            checkpoint=self.checkpoint,
            clock=lambda: self.now,
            **self.options,
        )
        self.aggregation.expect(["s"])

    def send(
        self,
        sequence: int,
        table: pa.Table | None = None,
        watermark: int = START,
        shard: str = "s",
        incarnation: str = "i1",
    ) -> Receipt:
        partial = Partial("v", 0, shard, incarnation, sequence, watermark, table)
        return self.aggregation.deliver(partial, self.aggregation.incarnation)

    def counts(self) -> dict[tuple[int, int, int], int]:
        """{(window offset in s, revision, port): flows} of all commits."""
        found: dict[tuple[int, int, int], int] = {}
        for table in self.sink.tables.values():
            for row in table.to_pylist():
                place = (row["_window"] - START) // SECOND, row["_revision"], row["src_port"]
                found[place] = found.get(place, 0) + row["flows"]
        return found
