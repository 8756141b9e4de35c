"""From a capture to grouped rows, flows joined with the routes of their router."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from benchmark import batch, ribs, tools
from benchmark.batch import Program
from benchmark.context import Bench
from benchmark.processes import Cost, FailedError, free_tcp_port, run, tcp_sockets
from benchmark.report import Section, Verdict
from benchmark.router import Routers, full_table
from flowray.generate.routes import NEXT_HOP_V4, PEER_AS, updates
from flowray.generate.session import write_session
from flowray.generate.traffic import START_NS

PLAIN = batch.REPLAY
SAME_KEYS = "flowray replay, AS and next hop of the flows"
JOINED = "flowray replay, joined"
NFACCTD, NFACCTD_JOINED = tools.NFACCTD.name, "nfacctd, joined"
SHARE_TARGET = 60

NEXT_HOP = str(IPv4Address(NEXT_HOP_V4))
EXPORTER, COLLECTOR = "192.0.2.1", "203.0.113.1"
SESSION_NS = 60_000_000_000
PCAP_HEADER = 24
DELAY_SECONDS = 20
"""nfacctd begins to read after so long: by then it has the routes."""
CONNECT_SECONDS = 30.0


def _with_session(flows: Path, routes: int) -> Path:
    """A capture of flows behind one of the session that tells the routes to them, made once."""
    path = flows.with_name(f"{flows.stem}-{routes}-routes.pcap")
    if not path.exists():
        made, session = path.with_suffix(".tmp"), path.with_suffix(".session")
        write_session(
            session, updates(full_table(routes)), EXPORTER, COLLECTOR,
            asn=PEER_AS, start_ns=START_NS - SESSION_NS, end_ns=START_NS - 1,
        )  # fmt: skip
        made.write_bytes(session.read_bytes() + flows.read_bytes()[PCAP_HEADER:])
        session.unlink()
        made.rename(path)
    return path


def _replay(folder: Path, capture: Path, view: str, routes: int = 0) -> tuple[Cost, pa.Table]:
    """A replay; with `routes`, of flows and the session that tells so many of them."""
    source = _with_session(capture, routes) if routes else capture
    command = tools.flowray_replay(folder, source, view=view, bgp=bool(routes))
    cost = run(command, folder)
    if routes:
        _check_next_hops(folder)
    return cost, tools.flowray_rows(folder)


def _check_next_hops(folder: Path) -> None:
    """Raises FailedError unless all flows have the next hop of the routes."""
    for path in (folder / "out").rglob("*.csv"):
        hops = set(csv.read_csv(path)["peer_ip_dst"].unique().to_pylist())
        if hops != {NEXT_HOP}:
            raise FailedError(f"flows were not joined: next hops {list(hops)[:5]}")


def _nfacctd(folder: Path, capture: Path, routers: Routers) -> tuple[Cost, pa.Table]:
    """nfacctd on a capture, once it has the routes."""
    port = free_tcp_port()
    (folder / "agents.map").write_text(f"bgp_ip=127.0.1.1 ip={EXPORTER}/32\n")
    source = f"""\
pcap_savefile: {capture}
pcap_savefile_delay: {DELAY_SECONDS}
nfacctd_as: longest
nfacctd_net: longest
bgp_agent_map: {folder}/agents.map
{ribs.nfacctd_bgp(port, 1)}"""
    keys = ", ".join(tools.JOINED_KEYS)
    command = tools.nfacctd(folder, source, tools.TUNED, keys)
    teller = threading.Thread(target=_tell, args=(routers, port))
    teller.start()
    try:
        # At the end of the capture its plug-in may be gone before its core: status 1.
        cost = run(command, folder, fine=(0, 1))
    finally:
        teller.join()
        routers.leave()
    return cost, tools.nfacctd_rows(folder)


def _tell(routers: Routers, port: int) -> None:
    """Announce the routes as soon as somebody listens."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while time.monotonic() < deadline:
        if tcp_sockets(port).count:
            routers.connect(port)
            routers.announce()
            return
        time.sleep(ribs.LOOK_SECONDS)


def joined(bench: Bench) -> Section:
    """pcap of IPFIX to grouped rows, with routes."""
    section = Section(
        f"pcap of IPFIX to grouped rows, with AS and next hop of {bench.routes * 6 // 5:,} routes"
        " (CPU of the run itself: whole process less its start, routes included)"
    )
    with Routers(bench.routes) as routers:
        programs: dict[str, Program] = {
            PLAIN: batch.flowray,
            SAME_KEYS: partial(_replay, view="joined"),
            JOINED: partial(_replay, view="joined", routes=bench.routes),
            NFACCTD: batch.PROGRAMS[NFACCTD],
            NFACCTD_JOINED: partial(_nfacctd, routers=routers),
        }
        runs = batch.measured(bench, programs, section)
    figures = {name: batch.figure(bench, name, mine) for name, mine in runs.items()}
    section.figures = list(figures.values())
    for with_routes, without, target in (
        (JOINED, PLAIN, SHARE_TARGET),
        (JOINED, SAME_KEYS, None),
        (NFACCTD_JOINED, NFACCTD, None),
    ):
        if with_routes in figures and without in figures and figures[without].rate:
            share = 100 * figures[with_routes].rate / figures[without].rate
            verdict = Verdict.at_least(f"{with_routes}, to {without}", share, target or 0, " %")
            if target is None:
                verdict = replace(verdict, target="none", met=None)
            section.verdicts.append(verdict)
    if JOINED in figures and NFACCTD_JOINED in figures:
        section.verdicts.append(Verdict.faster(figures[JOINED], figures[NFACCTD_JOINED], 10))
    batch.equal(section, {name: mine.rows for name, mine in runs.items()})
    return section
