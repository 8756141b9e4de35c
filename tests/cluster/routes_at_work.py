"""Routes and flows of all kinds through an engine that was warmed up: what is compiled then?

`python -m tests.cluster.routes_at_work DIR` prints a line for each kernel that was used with types
that the warm-up has not.
"""

import gc
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from cluster.warmup_routes import warm_up_routes
from flowray.field import Merge
from flowray.fields import REGISTRY
from flowray.generate.bench import bench_traffic
from flowray.replay import Replay
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.wire.bgp.capabilities import four_octet_as
from flowray.wire.bgp.mrt import MrtPeer
from flowray.wire.packets import PacketBatch
from tests.rib.bgp_peer import peer_open
from tests.wire.bgp import encode as e
from tests.wire.bgp import encode_bmp as b
from tests.wire.bgp import mrt_records as m

START = 1_700_000_000_000_000_000
KEEPALIVE = e.message(4, b"")
HOP, HOP6 = e.address("192.0.2.1"), e.address("2001:db8::1")
STACK = e.label_stack([100, 200])
RD = e.rd_as(65000, 1)
ROUTES = [
    e.update(attributes=e.usual(65551, 65001), nlri=e.prefix("198.51.100.0/24")),
    e.update(e.prefix("198.51.100.0/24")),
    *(
        e.update(attributes=e.mp_reach(afi, safi, hop, nlri) + e.usual(65551, 65001, hop=None))
        for afi, safi, hop, nlri in (
            (2, 1, HOP6, e.prefix("2001:db8::/48")),
            (1, 4, HOP, e.labeled("203.0.113.0/24", STACK)),
            (2, 4, HOP6, e.labeled("2001:db8::/32", STACK)),
            (1, 128, bytes(8) + HOP, e.labeled("203.0.113.0/24", STACK, RD)),
            (2, 128, bytes(8) + HOP6, e.labeled("2001:db8:1::/48", STACK, RD)),
            (1, 133, b"", e.flowspec(bytes.fromhex("0118cb0071 038106"))),
            (25, 70, HOP, e.evpn(3, RD + bytes(4) + b"\x20" + HOP)),
            (16388, 71, HOP, e.link_state(1, b"\x02" + bytes(8))),
            (1, 132, HOP, e.route_target(bytes(12))),
        )
    ),
    e.end_of_rib(2, 1),
]
PATHS = e.update(
    attributes=e.usual(65551), nlri=b"".join(e.prefix("192.0.2.0/24", path) for path in (1, 2))
)
REFRESH = [e.message(5, bytes((0, 1, mark, 1))) for mark in (1, 2)]


def _router() -> bytes:
    """A BMP session with a peer before and after policy."""
    peers = b.Peer(), b.Peer(flags=0x40), b.Peer("2001:db8::9", distinguisher=1, peer_type=1)
    told = [b.initiation(b.tlv(2, b"router"))]
    for peer in peers:
        told.append(b.peer_up(peer))
        told += [b.route_monitoring(peer, update) for update in ROUTES]
        told.append(b.statistics(peer, (7, bytes(8))))
    return b"".join([*told, b.peer_down(peers[0], 4), b.termination()])


def _table(path: Path) -> None:
    peer = MrtPeer(0, 0xFFFFC0000209, 65551, 9)
    entry = m.Entry(0, m.attribute(1, b"\0") + m.path(65551) + m.next_hop("192.0.2.9"))
    path.write_bytes(m.peer_index([peer]) + m.table(2, m.prefix("192.0.2.0/24"), entry))


def _flows(run: Replay) -> None:
    made = bench_traffic(300, distinct=30, start_ns=START + 10**9)
    exporter = np.full(len(made), run.collector.exporters.intern_one("192.0.2.1"), np.uint32)
    run.feed(PacketBatch(made.buffer, made.offset, made.length, exporter, made.time_ns))


def work(root: Path, **routes: Any) -> None:
    """Sessions, a table and flows."""
    streams = ("bgp_log", "bmp_log", "bgp_dump", "bmp_dump")
    configuration = {
        "listen": {"bgp": {"local_as": 65000}, "bmp": {}},
        "routes": {"streams": {name: {} for name in streams}, **routes},
        "views": [{"name": "all", "keys": [f.name for f in REGISTRY.public() if f.decoded]}],
    }
    program = compile_settings(parse_settings(configuration, "test"), "test")
    run = Replay(program, lambda _view, _partition: [MemorySink()])
    assert run.routes is not None
    first = [peer_open(capabilities=[four_octet_as(65551)]), KEEPALIVE, *ROUTES, *REFRESH]
    run.routes.receive("bgp", "192.0.2.1", 1, b"".join(first), START)
    second = [peer_open(), KEEPALIVE, PATHS, *REFRESH]
    run.routes.receive("bgp", "192.0.2.3", 1, b"".join(second), START)
    run.routes.receive("bmp", "192.0.2.2", 1, _router(), START)
    _table(root / "table.mrt")
    run.add_mrt(root / "table.mrt")
    _flows(run)
    run.routes.collector.advance(START + 3600 * 10**9)
    assert run.finish().problems == []


def used() -> set[tuple[str, str]]:
    """Kernels and the types that they were called with, or compiled for."""
    kernels = (o for o in gc.get_objects() if isinstance(o, Dispatcher))
    return {(f"{k.__module__}.{k.__name__}", str(types)) for k in kernels for types in k.signatures}


def main() -> None:
    root = Path(sys.argv[1])
    fields = [f.name for f in REGISTRY.public() if f.decoded]
    warm_up_routes(root, [name for name in fields if REGISTRY[name].merge is Merge.KEY])
    plain = compile_settings(
        parse_settings({"views": [{"name": "all", "keys": fields}]}, "test"), "test"
    )
    _flows(Replay(plain, lambda _view, _partition: [MemorySink()]))
    warm = used()
    work(root)
    work(root, next_hops="shared", join={"fall_back": ["global"]})
    for kernel, types in sorted(used() - warm):
        print(kernel, types)


if __name__ == "__main__":
    main()
