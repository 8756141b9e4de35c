"""Compile every kernel by using it once on a little generated traffic; numba keeps the results on
disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.replay import replay_here, sinks_for
from cluster.warmup_routes import warm_up_routes
from flowray.field import Merge, Source
from flowray.fields import REGISTRY
from flowray.generate.bench import MIX, bench_traffic
from flowray.generate.capture import write_capture
from flowray.ingest.warm import warm
from flowray.rib.warm import snapshot_of
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from flowray.settings.routes import RouteStreams
from flowray.sinks.files import FileKind
from flowray.sinks.warmup import warm_up as warm_up_sinks

RECORDS = 4000


def _every_field() -> list[str]:
    return [f.name for f in REGISTRY.public() if f.decoded and f.source is not Source.WINDOW]


def _configuration() -> dict[str, Any]:
    """Views that between them use every kernel of the flow path, and all of the routes."""
    keys = [n for n in _every_field() if REGISTRY[n].merge is Merge.KEY]
    streams: dict[str, Any] = {name: {} for name in RouteStreams.model_fields}
    return {
        "listen": {"bgp": {}, "bmp": {}},
        "routes": {"streams": streams, "join": {"fall_back": ["global"]}},
        "views": [
            {"name": "records", "keys": keys},
            {"name": "windows", "keys": [*keys, "tcpflags"], "window": "10s", "max_keys": 1000},
            {
                "name": "spread",
                "keys": ["src_host", "proto", "timestamp_min", "timestamp_max"],
                "window": "10s",
                "time": "start",
                "split": True,
                "sample": 2,
                "partitions": 2,
                "filter": "src_host in 10.0.0.0/8 or proto in [tcp, udp] and dst_port in 1-65535",
            },
        ],
    }


def _program() -> Program:
    return compile_settings(parse_settings(_configuration(), "warm-up"), "warm-up")


def _replay(capture: Path, out: Path, kind: FileKind) -> Callable[[], object]:
    program = _program()
    return lambda: replay_here(program, [capture], sinks_for(program, out, kind), quiet=True)


def warm_up() -> None:
    """Run the flow and route paths over made-up input of all protocols, with a progress bar; a few
    seconds if nothing is to compile.
    """
    columns = (TextColumn("compiling kernels: {task.description}"), BarColumn())
    bar = Progress(
        *columns, MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True)
    )
    with bar, tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        capture = root / "warm-up.pcap"
        steps: list[tuple[str, Callable[[], object]]] = [
            ("rendering and files", warm_up_sinks),
            (
                "traffic and captures",
                lambda: write_capture(capture, bench_traffic(RECORDS, distinct=500, mix=MIX)),
            ),
            ("routes", lambda: snapshot_of(_program())),
            ("joins", lambda: warm(_program())),
            ("decoding, views, JSON lines", _replay(capture, root, "jsonl")),
            ("CSV", _replay(capture, root, "csv")),
            ("Parquet", _replay(capture, root, "parquet")),
            ("routes", lambda: warm_up_routes(root, _every_field())),
        ]
        task = bar.add_task("", total=len(steps))
        for name, step in steps:
            bar.update(task, description=name)
            step()
            bar.advance(task)
