"""A shard killed with -9 under load: of the datagrams that it had received every record is
committed once; what was lost meanwhile is what the sequence account says.
"""

import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest

from cluster.live import Live, running
from cluster.topology import plan_of, with_ports
from flowray.generate.numbered import Account, NumberedExporter
from flowray.generate.send import Sender
from flowray.ingest.ledger import totals
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from tests.ingest.live_rig import wait_for

pytestmark = pytest.mark.ray

EXPORTER = "127.0.4.1"


@pytest.fixture
def live(ray_local: ModuleType, tmp_path: Path) -> Iterator[Live]:
    content = {
        "listen": {"flows": ["udp://127.0.0.1:0"]},
        "views": [
            {"name": "raw", "keys": ["src_host"], "sinks": ["rows"]},
            {"name": "sums", "keys": ["dst_host"], "window": "2s"},
        ],
        "sinks": {"rows": {"type": "parquet", "path": str(tmp_path / "rows")}},
        "state": {"path": str(tmp_path / "state"), "ring": str(tmp_path / "ring")},
        "cluster": {"shards": 1},
    }
    settings = with_ports(parse_settings(content, "test"))
    with running(plan_of(compile_settings(settings, "test"), "test")) as one:
        one.wait_ready()
        yield one


@dataclass
class Load:
    """An exporter that sends at a steady rate until `stop`, in a thread."""

    port: int
    rate: int
    exporter: NumberedExporter = field(default_factory=lambda: NumberedExporter(EXPORTER))
    datagrams: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with Sender("127.0.0.1", self.port, [EXPORTER]) as sender:
            while not self._stop.is_set():
                # A tenth of a second of it.
                batch = self.exporter.datagrams(self.rate // 10, time.time_ns())
                self.datagrams += sender.send(batch, rate=self.rate).sent

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def only_shard(live: Live) -> dict[str, Any]:
    (shard,) = live.status()["shards"].values()
    return dict(shard)


def wait_resumed(live: Live, n: int, pid: int) -> None:
    def back() -> bool:
        shard = only_shard(live)
        return shard["state"] == "healthy" and shard["pid"] != pid and shard["resumed"] == n

    wait_for(back, "successor", 60)


def committed(folder: Path) -> list[Any]:
    """Source addresses of all committed rows as numbers."""
    return [
        np.frombuffer(b"".join(map(socket.inet_aton, batch["ip_src"].to_pylist())), ">u4")
        for batch in ds.dataset(folder).to_batches(columns=["ip_src"])
    ]


def killed(live: Live, folder: Path, kills: int, rate: int, seed: int = 1) -> dict[str, Any]:
    """Kill the only shard again and again under load; figures of the end."""
    rng = random.Random(seed)
    load = Load(int(live.plan.settings.listen.flows[0].rpartition(":")[2]), rate)
    seconds = []
    try:
        for n in range(kills):
            before = only_shard(live)
            wait_for(lambda b=before: only_shard(live)["datagrams"] > b["datagrams"], "load")
            time.sleep(rng.random())  # wherever it is by then
            os.kill(before["pid"], signal.SIGKILL)
            begun = time.monotonic()
            wait_resumed(live, n + 1, before["pid"])
            seconds.append(time.monotonic() - begun)
        wait_for(lambda: only_shard(live)["recovered"] > 0, "recovered datagrams")
    finally:
        load.stop()
    # What is sent now arrives: it ends the last gap.
    with Sender("127.0.0.1", load.port, [EXPORTER]) as sender:
        load.datagrams += sender.send(load.exporter.datagrams(5, time.time_ns()), rate=100).sent
    recovered = only_shard(live)["recovered"]
    summary = live.drain()
    account = Account.of(load.exporter.sent, committed(folder))
    sums = totals(summary["ledger"])
    return {
        "kills": kills,
        "rate": rate,
        "datagrams_sent": load.datagrams,
        "datagrams_received": summary["datagrams"],
        "recovered_from_rings": recovered,
        "kernel_drops": summary["kernel_drops"],
        "records_sent": account.sent,
        "records_received": summary["records"],
        "records_committed": account.committed,
        "missing": account.missing,
        "sequence_gap": sums.get("sequence_gap", 0),
        "repeated": account.repeated,
        "foreign": account.foreign,
        "problems": summary["problems"],
        "back_after_seconds": {
            "median": round(sorted(seconds)[len(seconds) // 2], 2),
            "longest": round(max(seconds), 2),
        },
        "sums": summary["committed"]["sums"],
    }


def check(figures: dict[str, Any]) -> None:
    assert figures["problems"] == []
    assert figures["repeated"] == 0
    assert figures["foreign"] == 0
    assert figures["recovered_from_rings"] > 0
    # Of what it had received nothing is missing; what is missing is what the account says.
    assert figures["records_received"] == figures["records_committed"]
    assert figures["missing"] == figures["sequence_gap"]
    assert figures["records_committed"] == figures["records_sent"] - figures["missing"]
    assert figures["sums"]["flows"] == figures["records_committed"]


def test_three_kills(live: Live, tmp_path: Path) -> None:
    check(killed(live, tmp_path / "rows", 3, 2000))


@pytest.mark.slow
def test_twenty_kills(live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = killed(live, tmp_path / "rows", 20, 20_000)
    with capsys.disabled():
        print(json.dumps(figures))
    check(figures)
