"""The programs that are compared: how each is started, and where its rows are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmark import sums
from benchmark.processes import FLOWRAY, PYTHON, QUIET, Cost, FailedError, run

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RECEIVE_BUFFER = 4 << 20
"""Octets of socket buffer that every collector is told to ask for."""

NFDUMP_KEY = "srcip,dstip,srcport,dstport,proto"
NFDUMP_FORMAT = "fmt:%sa,%da,%sp,%dp,%pr,%pkt,%byt"
"""A third of the time of `-o csv`, which prints 48 columns."""

KEYS = ["src_host", "dst_host", "src_port", "dst_port", "proto"]

JOINED_KEYS = [*KEYS, "src_as", "dst_as", "peer_dst_ip"]

RECORD_KEYS = [
    *("src_host", "dst_host", "peer_dst_ip", "src_port", "dst_port", "proto", "tos", "tcpflags"),
    *("in_iface", "out_iface", "src_as", "dst_as", "src_mask", "dst_mask"),
    *("timestamp_start", "timestamp_end", "peer_src_ip"),
]
"""The 18 fields of the generated records (with packets and bytes), and who sent them."""

VIEWS: dict[str, dict[str, Any]] = {
    "grouped": {"name": "grouped", "keys": KEYS, "window": "1h"},
    "joined": {"name": "joined", "keys": JOINED_KEYS, "window": "1h"},
    "records": {"name": "records", "keys": RECORD_KEYS, "counters": ["packets", "bytes"]},
}


class MissingError(Exception):
    """A peer is not installed; the text says how to get it."""


def peer(name: str, package: str) -> str:
    """Path of a peer. Raises MissingError."""
    if found := shutil.which(name, path=SEARCH):
        return found
    raise MissingError(f"{name} is missing: apt-get install {package}")


@dataclass(frozen=True, slots=True)
class NfacctdBuffers:
    """How nfacctd's core hands records to its plug-in, and the cache of the plug-in."""

    entries: int
    buffer: int
    pipe: int


TUNED = NfacctdBuffers(65_537, 1_024_000, 1_024_000_000)
"""The cheapest found that never lost a record: larger buffers save wake-ups. A pipe of 100 MB costs
a second less of touching memory, but lost records in one of two tries.
"""

CONSERVATIVE = NfacctdBuffers(160_001, 102_400, 1_024_000_000)
"""Smaller buffers, a larger cache."""


def nfacctd(
    folder: Path, source: str, buffers: NfacctdBuffers, keys: str = ", ".join(KEYS)
) -> list[str]:
    """nfacctd on `source`, lines of its configuration that say where datagrams come from."""
    text = f"""\
daemonize: false
{source}
plugins: print
aggregate: {keys}
print_refresh_time: 300
print_history: 1h
print_output: csv
print_output_file: {folder}/rows-%s.csv
print_num_protos: true
print_cache_entries: {buffers.entries}
plugin_buffer_size: {buffers.buffer}
plugin_pipe_size: {buffers.pipe}
nfacctd_time_new: true
"""
    (folder / "nfacctd.conf").write_text(text)
    return [peer("nfacctd", "pmacct"), "-f", f"{folder}/nfacctd.conf"]


def nfacctd_rows(folder: Path) -> pa.Table:
    """Rows of nfacctd. Raises FailedError if it says that it lost records between its processes."""
    for log in (*folder.glob("run.log"), *folder.glob("server.log")):
        if "Missing data" in log.read_text(errors="replace"):
            raise FailedError("nfacctd lost records between its processes")
    return sums.joined([sums.read_nfacctd(path) for path in sorted(folder.glob("rows-*.csv"))])


def nfcapd(folder: Path, port: int, *compression: str) -> list[str]:
    """nfcapd that stores in `folder`/flows."""
    (folder / "flows").mkdir()
    command = [peer("nfcapd", "nfdump"), "-b", "127.0.0.1", "-p", str(port), "-t", "3600"]
    return [*command, "-B", str(RECEIVE_BUFFER), "-w", f"{folder}/flows", *compression]


def nfdump(folder: Path) -> Cost:
    """Group what nfcapd stored in `folder`; rows in `folder`/nfdump.csv. Raises FailedError."""
    command = [peer("nfdump", "nfdump"), "-q", "-N", "-R", f"{folder}/flows", "-A", NFDUMP_KEY]
    return run([*command, "-o", NFDUMP_FORMAT], folder, stdout=folder / "nfdump.csv")


def flowray_config(
    folder: Path,
    view: str,
    port: int | None = None,
    kind: str = "csv",
    *,
    bgp: bool = False,
    shards: int = 1,
    checkpoint: str = "5s",
    redis: str = "",
) -> Path:
    """A configuration of one view, stored under `folder`/out; with `bgp`, joined with routes."""
    settings: dict[str, Any] = {
        "views": [{**VIEWS[view], "sinks": ["out"]}],
        "sinks": {"out": {"type": kind, "path": f"{folder}/out"}},
        "state": {"path": f"{folder}/state", "checkpoint": checkpoint},
        "cluster": {"shards": shards, "dashboard": False},
    }
    if redis:
        settings["redis"] = redis
    if shards > 1:
        # One exporter with all the traffic is on a shard before its template is.
        settings["decode"] = {"hold_per_exporter": "64MiB", "hold_total": "128MiB"}
    listen: dict[str, Any] = {}
    if port is not None:
        listen["flows"] = [f"udp://127.0.0.1:{port}"]
    if bgp:
        listen["bgp"] = {"address": "127.0.0.1:1179"}
    if listen:
        settings["listen"] = listen
    path = folder / "flowray.yaml"
    path.write_text(json.dumps(settings, indent=1))  # JSON is YAML
    return path


def flowray_replay(
    folder: Path, capture: Path, workers: int = 0, view: str = "grouped", *, bgp: bool = False
) -> list[str | Path]:
    """`flowray replay` to grouped rows in `folder`/out."""
    config = flowray_config(folder, view, bgp=bgp)
    options = ["--workers", str(workers), "--format", "csv", "--json"]
    return [FLOWRAY, "replay", capture, "-c", config, "--out", folder / "out", *options]


def flowray_rows(folder: Path) -> pa.Table:
    """Rows of flowray."""
    return sums.joined([sums.read_flowray(p) for p in sorted((folder / "out").rglob("*.csv"))])


@dataclass(frozen=True, slots=True)
class Collector:
    """A live collector: its command on a port, what is run after it, and its rows."""

    name: str
    command: Callable[[Path, int], list[Any]]
    rows: Callable[[Path], pa.Table] | None = None
    after: Callable[[Path], Cost] | None = None
    quiet: float = QUIET


def _nfacctd_live(buffers: NfacctdBuffers) -> Callable[[Path, int], list[str]]:
    def command(folder: Path, port: int) -> list[str]:
        listen = ("nfacctd_ip: 127.0.0.1", f"nfacctd_port: {port}")
        source = "\n".join((*listen, f"nfacctd_pipe_size: {RECEIVE_BUFFER}"))
        return nfacctd(folder, source, buffers)

    return command


def _shard(view: str, kind: str) -> Callable[[Path, int], list[Any]]:
    def command(folder: Path, port: int) -> list[Any]:
        config = flowray_config(folder, view, port, kind)
        return [PYTHON, "-m", "benchmark.shard", config]

    return command


def _first_on_ray(folder: Path, port: int) -> list[Any]:
    return [PYTHON, "-m", "benchmark.up", flowray_config(folder, "grouped", port)]


def _up(folder: Path, port: int) -> list[Any]:
    return [FLOWRAY, "up", "-c", flowray_config(folder, "grouped", port), "--json"]


NFACCTD = Collector("nfacctd", _nfacctd_live(TUNED), nfacctd_rows)
NFACCTD_SMALL = Collector("nfacctd, 100 kB buffers", _nfacctd_live(CONSERVATIVE), nfacctd_rows)
NFCAPD = Collector("nfcapd", nfcapd)
NFCAPD_NFDUMP = Collector(
    "nfcapd + nfdump -A", nfcapd, lambda folder: sums.read_nfdump(folder / "nfdump.csv"), nfdump
)
NFCAPD_LZ4 = Collector("nfcapd -y (LZ4)", lambda folder, port: nfcapd(folder, port, "-y"))
SHARD = Collector("flowray, one shard in-process", _shard("grouped", "csv"), flowray_rows)
SHARD_RECORDS = Collector("flowray, records to Parquet", _shard("records", "parquet"))
FIRST_ON_RAY = Collector("flowray on Ray, first packet", _first_on_ray)
ON_RAY = Collector("flowray on Ray, one shard", _up, flowray_rows, quiet=0.4)
