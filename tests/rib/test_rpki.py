"""Rows and snapshots tell the validation states of routes, by a file or a cache."""

import json
import socket
import threading
from pathlib import Path

import pytest

from flowray.errors import ConfigError
from flowray.rib.collector import RouteCollector
from flowray.rib.journal import Labels
from flowray.rib.replay import RouteReplay
from flowray.rib.streams import Stream
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.sinks.encoding import Encoding
from flowray.sinks.render import render
from flowray.wire.bgp.capabilities import four_octet_as
from flowray.wire.bgp.messages import KEEPALIVE
from tests.ingest.live_rig import wait_for
from tests.rib import rtr_pdus as rtr
from tests.rib.bgp_peer import START, peer_open
from tests.rib.service_rig import Router, group, program
from tests.wire.bgp import encode as e

HOUR = 3600 * 10**9
ROUTES = (
    ("198.51.100.0/24", (65551, 64496)),  # valid
    ("198.51.100.0/25", (65551, 64496)),  # too long
    ("203.0.113.0/24", (65551, 64496)),  # of nobody
    ("192.0.2.0/24", (65551, 64499)),  # of another
)
ROAS = [
    {"asn": 64496, "prefix": "198.51.100.0/24"},
    {"asn": "AS64497", "prefix": "192.0.2.0/24", "maxLength": 26},
]


def test_rows_of_a_log_and_of_a_dump(tmp_path: Path) -> None:
    file = tmp_path / "roas.json"
    file.write_text(json.dumps({"roas": ROAS}))
    configuration = {
        "listen": {"bgp": {"local_as": 64999}},
        "views": [{"name": "v", "keys": ["dst_as"]}],
        "routes": {"streams": {"bgp_log": {}, "bgp_dump": {}}, "rpki": {"roas": str(file)}},
    }
    made = compile_settings(parse_settings(configuration, "test"), "test")
    sinks = {name: MemorySink() for name in made.streams}
    streams = {name: Stream(name, [sink]) for name, sink in sinks.items()}
    run = RouteReplay(made.settings, RouteCollector(made.settings, streams, Labels()))
    told = [peer_open(capabilities=[four_octet_as(65551)]), KEEPALIVE]
    told += [e.update(attributes=e.usual(*path), nlri=e.prefix(to)) for to, path in ROUTES]
    vpn = e.labeled("192.0.2.0/24", e.label_stack([1]), e.rd_as(1, 1))
    hop = bytes(8) + e.address("192.0.2.1")
    told.append(e.update(attributes=e.mp_reach(1, 128, hop, vpn) + e.usual(64499, hop=None)))
    run.receive("bgp", "192.0.2.1", 1, b"".join(told), START)
    run.collector.flush(START)
    run.collector.advance(START)
    run.collector.advance(START + HOUR)
    run.collector.store()

    def states(stream: str) -> list[str | None]:
        tables = sinks[stream].tables.values()
        fields = made.stream_fields(stream)
        rows = [row for t in tables for row in render(t, fields, Encoding()).to_pylist()]
        return [row["roa"] for row in rows if row.get("ip_prefix")]

    assert states("bgp_log") == ["v", "i", "u", "i", None]
    assert sorted(map(str, states("bgp_dump"))) == ["None", "V", "i", "u", "v"]
    assert run.publish(START).validated


def test_a_cache_is_asked(tmp_path: Path) -> None:
    answer = rtr.response(7) + rtr.prefix("198.51.100.0/24", 64496) + rtr.end(7, 1)
    with socket.create_server(("127.0.0.1", 0)) as cache:

        def serve() -> None:
            connection, _ = cache.accept()
            with connection:
                connection.recv(8)
                connection.sendall(answer)
                connection.recv(1)  # until it closes

        server = threading.Thread(target=serve)
        server.start()
        port = cache.getsockname()[1]
        of = program(tmp_path, rpki={"cache": f"127.0.0.1:{port}"})
        with group(of) as g, Router(g.port("bgp")) as router:
            wait_for(lambda: g.service.status()["rpki_payloads"] == 1, "payloads")
            router.establish()
            router.announce(["198.51.100.0/24"], 65551, 64496)
            wait_for(lambda: any(row["roa"] for row in g.rows("bgp_log")), "state")
            snapshot = g.service.newest("", 0)
            assert snapshot is not None
            assert snapshot.validated
        server.join()
    assert next(row["roa"] for row in g.rows("bgp_log") if row["roa"]) == b"v"


@pytest.mark.parametrize(
    ("rpki", "place"),
    [
        ({"cache": "rpki.example.net"}, "routes.rpki.cache"),
        ({"cache": "a:1", "roas": "b"}, "routes.rpki.cache"),
    ],
)
def test_what_is_no_source(rpki: dict[str, str], place: str) -> None:
    views = [{"name": "v", "keys": ["dst_as"]}]
    with pytest.raises(ConfigError, match=place):
        parse_settings({"views": views, "routes": {"rpki": rpki}}, "test")
