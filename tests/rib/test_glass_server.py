"""The looking glass over gRPC, from a client's side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from flowray.pb import rib_pb2 as pb
from flowray.pb.rib_pb2_grpc import RibStub
from flowray.rib import glass_answers, looking_glass
from flowray.rib.glass_answers import Answers, Moment, TablesAt, no_tables
from flowray.rib.glass_server import GlassError, GlassServer
from flowray.rib.rib import Rib
from flowray.rib.route_query import QueryError
from flowray.route_fields import ROW_KINDS, RowKind
from tests.rib.tables import RibThread, bgp_peer, bmp_peer, feed
from tests.wire.bgp import encode as e

PATIENCE_S = 60


def v4(prefix: str, *path: int, **more: Any) -> bytes:
    return e.update(attributes=e.usual(*path) + more.get("more", b""), nlri=e.prefix(prefix))


def fill(rib: Rib) -> None:
    one, two = rib.open(bgp_peer()), rib.open(bmp_peer())
    with_community = e.communities((64496, 1)) + e.local_pref(200)
    feed(
        rib,
        one,
        v4("10.0.0.0/8", 64496, 64497),
        v4("10.1.0.0/16", 64496, 64498, more=with_community),
        e.end_of_rib(),
    )
    feed(rib, two, v4("10.1.0.0/16", 64499))


class Client:
    """A server with its RIB, and a channel to it."""

    def __init__(self, owner: RibThread, channel: grpc.Channel) -> None:
        self.owner, self.channel, self.stub = owner, channel, RibStub(channel)

    def routes(self, **conditions: Any) -> list[pb.Route]:
        answers = self.stub.Routes(pb.RoutesRequest(**conditions), timeout=PATIENCE_S)
        return [route for answer in answers for route in answer.routes]


def past(time: str) -> Any:
    """Tables of the time `then`: one route less, one more, one other."""
    if time != "then":
        return no_tables(time)
    rib = Rib()
    number = rib.open(bgp_peer())
    feed(rib, number, v4("10.0.0.0/8", 64496, 64497), v4("10.1.0.0/16", 64496, 64499))
    feed(rib, number, v4("172.16.0.0/12", 64496))
    return Moment(looking_glass.asking(rib))


def serve(tables_at: TablesAt) -> Iterator[Client]:
    with RibThread().running() as owner:
        owner.ask(fill)
        server = GlassServer("127.0.0.1:0", Answers(owner.ask, tables_at=tables_at))
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Client(owner, channel)
        server.stop()


@pytest.fixture
def client() -> Iterator[Client]:
    yield from serve(past)


def test_peers(client: Client) -> None:
    one, two = client.stub.Peers(pb.PeersRequest(), timeout=PATIENCE_S).peers
    assert (one.protocol, one.address, one.asn, one.state, one.routes) == (
        "bgp", "192.0.2.1", 64496, "up", 2,
    )  # fmt: skip
    (table,) = one.tables
    assert (table.family, table.afi, table.safi, table.routes) == ("ipv4 unicast", 1, 1, 2)
    assert table.end_of_rib
    assert one.octets == table.octets > 0
    assert (two.protocol, two.router, two.view) == ("bmp", "203.0.113.1", "adj-rib-in-post")
    assert not two.tables[0].end_of_rib


def test_lookup(client: Client) -> None:
    def prefixes(**request: Any) -> list[str]:
        answer = client.stub.Lookup(pb.LookupRequest(**request), timeout=PATIENCE_S)
        return [route.ip_prefix for route in answer.routes]

    assert prefixes(address="10.1.2.3") == ["10.1.0.0/16", "10.1.0.0/16"]
    assert prefixes(address="10.1.2.3", peer="192.0.2.1", all=True) == ["10.0.0.0/8", "10.1.0.0/16"]
    assert prefixes(address="192.0.2.1") == []


def test_routes_have_the_values_of_their_rows(client: Client) -> None:
    (route,) = client.routes(communities=["64496:1"])
    assert {field.name: value for field, value in route.ListFields()} == {
        "event_type": "lglass",
        "peer_ip_src": "192.0.2.1",
        "peer_tcp_port": 179,
        "peer_id": "198.51.100.1",
        "afi": 1,
        "safi": 1,
        "ip_prefix": "10.1.0.0/16",
        "bgp_nexthop": "192.0.2.1",
        "as_path": "64496 64498",
        "comms": "64496:1",
        "origin": "i",
        "local_pref": 200,
    }
    (other,) = client.routes(peer="203.0.113.1")
    assert (other.bmp_router, other.peer_ip, other.is_post) == ("203.0.113.1", "192.0.2.9", 1)
    assert [r.ip_prefix for r in client.routes(as_path="_64497$")] == ["10.0.0.0/8"]
    assert len(client.routes(prefix="10.0.0.0/8", longer=True)) == 3
    assert len(client.routes(limit=1)) == 1


def test_diff(client: Client) -> None:
    request = pb.DiffRequest(before="then", after="now", peer="192.0.2.1")
    answers = list(client.stub.Diff(request, timeout=PATIENCE_S))
    changes = [
        (c.before.ip_prefix, c.before.as_path, c.after.ip_prefix, c.after.as_path)
        for answer in answers
        for c in answer.changes
    ]
    assert changes == [
        ("10.1.0.0/16", "64496 64499", "10.1.0.0/16", "64496 64498"),
        ("172.16.0.0/12", "64496", "", ""),
    ]
    assert not answers[1].changes[1].HasField("after")


@pytest.mark.parametrize(
    ("method", "request_", "line"),
    [
        ("Lookup", pb.LookupRequest(address="10.1.2"), "prefix: found '10.1.2'"),
        ("Lookup", pb.LookupRequest(), "look-up: found no address"),
        ("Routes", pb.RoutesRequest(as_path="("), "AS path: found '('"),
        ("Diff", pb.DiffRequest(before="x", after="now"), "time: found 'x'"),
    ],
)
def test_questions_without_sense(client: Client, method: str, request_: Any, line: str) -> None:
    def ask() -> None:
        answer = getattr(client.stub, method)(request_, timeout=PATIENCE_S)
        if method in ("Routes", "Diff"):
            list(answer)

    with pytest.raises(grpc.RpcError) as refused:
        ask()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    details = refused.value.details()  # type: ignore[attr-defined]
    assert line in details
    assert "\n" not in details


def test_a_peer_that_is_not_there(client: Client) -> None:
    with pytest.raises(grpc.RpcError, match="of which there are no routes here") as refused:
        client.routes(peer="192.0.2.77")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]


def test_one_comparison_at_a_time(client: Client) -> None:
    release, held = threading.Event(), threading.Event()

    def hold(rib: Rib) -> None:
        held.set()
        assert release.wait(PATIENCE_S)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(client.owner.ask, hold)
        assert held.wait(PATIENCE_S)
        first = client.stub.Diff(pb.DiffRequest(before="now", after="now"), timeout=PATIENCE_S)
        next(first)  # it has begun, and waits for the RIB
        with pytest.raises(grpc.RpcError, match="ask again") as refused:
            list(client.stub.Diff(pb.DiffRequest(before="now", after="now"), timeout=PATIENCE_S))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        release.set()
        holding.result(PATIENCE_S)
        assert list(first) == []
    assert len(list(client.stub.Diff(pb.DiffRequest(before="now", after="now")))) == 1


def test_updates_pour_in_while_an_answer_is_made(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The RIB's thread is free between the slices of an answer, and while it is written."""
    monkeypatch.setattr(looking_glass, "SLICE_ROUTES", 1)
    monkeypatch.setattr(glass_answers, "ROWS", 1)
    answers = iter(client.stub.Routes(pb.RoutesRequest(), timeout=PATIENCE_S))
    first = next(answers).routes[0].ip_prefix
    client.owner.ask(lambda rib: feed(rib, 0, v4("10.2.0.0/16", 64500)))
    client.owner.ask(lambda rib: rib.drop(1))
    rest = [route.ip_prefix for answer in answers for route in answer.routes]
    assert [first, *rest][:2] == ["10.0.0.0/8", "10.1.0.0/16"]
    assert client.owner.questions >= 4


def test_a_thread_that_does_not_answer(client: Client) -> None:
    def busy(question: Any) -> Any:
        raise TimeoutError

    server = GlassServer("127.0.0.1:0", Answers(busy))
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.RpcError) as refused:
            RibStub(channel).Peers(pb.PeersRequest(), timeout=PATIENCE_S)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    server.stop()


def test_health(client: Client) -> None:
    stub = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", "flowray.v1.Rib"):
        request = health_pb2.HealthCheckRequest(service=service)
        answer = stub.Check(request, timeout=PATIENCE_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection(client: Client) -> None:
    database = ProtoReflectionDescriptorDatabase(client.channel)
    assert set(database.get_services()) == {
        "flowray.v1.Rib",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    service = DescriptorPool(database).FindServiceByName("flowray.v1.Rib")
    assert [method.name for method in service.methods] == ["Peers", "Lookup", "Routes", "Diff"]


def test_an_address_that_is_taken(client: Client) -> None:
    server = GlassServer("127.0.0.1:0", Answers(client.owner.ask))
    with pytest.raises(GlassError, match=f"cannot listen on 127.0.0.1:{server.port}"):
        GlassServer(f"127.0.0.1:{server.port}", Answers(client.owner.ask))
    server.stop()


def test_no_tables_are_kept() -> None:
    with pytest.raises(QueryError, match="no tables of the past are kept"):
        no_tables("yesterday")


def test_a_route_has_every_key_of_its_rows() -> None:
    keys = ROW_KINDS[RowKind.BGP_LOOKUP] | ROW_KINDS[RowKind.BMP_LOOKUP]
    assert {field.name for field in pb.Route.DESCRIPTOR.fields} == keys - {"timestamp_arrival"}


def test_threads_end_with_the_server() -> None:
    before = set(threading.enumerate())
    for client in serve(no_tables):
        client.routes()
        own = [t for t in set(threading.enumerate()) - before if "looking-glass" in t.name]
        assert own
    for thread in own:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
