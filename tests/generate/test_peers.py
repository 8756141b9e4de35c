"""What programs of others make of our datagrams."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from flowray.generate import Truth, default_exporters, traffic
from flowray.generate.capture import write_traffic
from tests.generate.naive import Row, truth_rows

pytestmark = pytest.mark.peers

Peer = Callable[[str], Path]
EXPORTERS = default_exporters(7)
SFLOW = {spec.address for spec in EXPORTERS if spec.kind.startswith("sflow")}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Counter[Row]]:
    path = tmp_path_factory.mktemp("generated") / "traffic.pcap"
    truth: list[Truth] = []
    write_traffic(path, traffic(3, EXPORTERS, rate=150, seconds=62, truth=truth), EXPORTERS)
    return path, truth_rows(Truth.joined(truth))


def tshark(program: Path, path: Path, *arguments: str) -> list[str]:
    # Payloads of sampled frames are filler, which must not be dissected as what the ports promise.
    command = [str(program), "-n", "-r", str(path), "-d", "udp.port==2055,cflow", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout.splitlines()


def test_tshark_finds_nothing_malformed(peer: Peer, generated: tuple[Path, Counter[Row]]) -> None:
    path, _ = generated
    program = peer("tshark")
    assert tshark(program, path, "-Y", "_ws.malformed || _ws.short") == []
    # Sequence numbers that do not follow and unknown templates are notes of the dissector.
    notes = tshark(program, path, "-Y", "cflow && _ws.expert", "-T", "fields", "-e", "_ws.expert")
    assert notes == []


def test_tshark_reads_the_same_records(peer: Peer, generated: tuple[Path, Counter[Row]]) -> None:
    path, want = generated
    # Fields that stand in every data record and in no record of options data.
    names = ("srcport", "dstport", "protocol", "packets", "octets")
    columns = [part for name in names for part in ("-e", f"cflow.{name}")]
    arguments = ["-Y", "cflow.octets", "-T", "fields", "-e", "ip.src", *columns]
    got: Counter[tuple[object, ...]] = Counter()
    for line in tshark(peer("tshark"), path, *arguments):
        (source,), *cells = (cell.split(",") for cell in line.split("\t"))
        for values in zip(*cells, strict=True):
            got[source, *map(int, values)] += 1
    expected: Counter[tuple[object, ...]] = Counter()
    for row, count in want.items():
        if row.exporter not in SFLOW:
            expected[row.exporter, *row[3:6], row.packets, row.octets] += count
    assert got == expected


@pytest.mark.parametrize("program", ["nfacctd", "sfacctd"])
def test_pmacct_counts_the_same(
    peer: Peer, generated: tuple[Path, Counter[Row]], tmp_path: Path, program: str
) -> None:
    path, want = generated
    keys = "peer_src_ip, src_host, dst_host, src_port, dst_port, proto, in_iface, out_iface"
    (tmp_path / "pmacct.conf").write_text(
        f"daemonize: false\npcap_savefile: {path}\nplugins: print[a]\naggregate[a]: {keys}\n"
        f"print_output[a]: json\nprint_output_file[a]: {tmp_path}/out.json\n"
        "print_refresh_time[a]: 3600\nprint_num_protos[a]: true\n"
        "plugin_buffer_size: 2048000\nplugin_pipe_size: 20480000\n"
    )
    found = peer("nfacctd").with_name(program)
    command = [str(found), "-f", str(tmp_path / "pmacct.conf")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    got: Counter[tuple[object, ...]] = Counter()
    for line in (tmp_path / "out.json").read_text().splitlines():
        row = json.loads(line)
        names = ("peer_ip_src", "ip_src", "ip_dst", "port_src", "port_dst", "ip_proto")
        key = (*(row[name] for name in names), row["iface_in"], row["iface_out"])
        got[*key, "packets"] += row["packets"]
        got[*key, "bytes"] += row["bytes"]
    expected: Counter[tuple[object, ...]] = Counter()
    for flow, count in want.items():
        if (flow.exporter in SFLOW) == (program == "sfacctd"):
            key = (*flow[:5], str(flow.proto), *flow[6:8])
            expected[*key, "packets"] += flow.packets * count
            expected[*key, "bytes"] += flow.octets * count
    assert got == expected
