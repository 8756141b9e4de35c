"""Sessions from octets to tables and rows: RFC 7606, limits, refreshes, restarts, dumps."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.peers import PolicyView
from flowray.wire.bgp.capabilities import four_octet_as, multiprotocol
from flowray.wire.bgp.events import Verdict
from tests.rib.bgp_peer import SECOND, peer_open
from tests.rib.collector_rig import PORT, ROUTER, Rig
from tests.wire.bgp import encode as e
from tests.wire.bgp import encode_bmp as b
from tests.wire.bgp import update_twin as twin
from tests.wire.bgp.updates import messages

OTHER = "198.51.100.8"
# Without path identifiers.
PLAIN = (multiprotocol(1, 1), multiprotocol(2, 1), four_octet_as(65551))


def announce(*prefixes: str, asn: int = 64500) -> bytes:
    return e.update(attributes=e.usual(65551, asn), nlri=b"".join(map(e.prefix, prefixes)))


def withdraw(*prefixes: str) -> bytes:
    return e.update(withdrawn=b"".join(map(e.prefix, prefixes)))


def opened(bgp_id: str = ROUTER) -> bytes:
    return peer_open(capabilities=PLAIN, bgp_id=bgp_id)


NET = "203.0.113.0/24"
BAD_ORIGIN = e.attribute(1, b"\x09", 0x40) + e.as_path(65551) + e.next_hop("192.0.2.1")


# -- RFC 7606


def test_a_malformed_attribute_withdraws_its_routes_and_the_session_goes_on() -> None:
    rig = Rig()
    link = rig.bgp(opened=opened())
    link.send(announce(NET, "10.0.0.0/8"))
    link.send(e.update(attributes=BAD_ORIGIN, nlri=e.prefix(NET)))
    assert (link.sent, link.routes.alive) == ([], True)
    assert rig.routes() == {ROUTER: 1}
    link.send(announce("192.0.2.0/24"))
    assert rig.log() == [
        *(("update", NET), ("update", "10.0.0.0/8"), ("withdraw", NET), ("update", "192.0.2.0/24"))
    ]
    assert sum(rig.collector.malformed.values()) == 1


def test_an_attribute_that_is_discarded_costs_no_route() -> None:
    rig = Rig()
    link = rig.bgp(opened=opened())
    bad = e.usual(65551) + e.attribute(7, b"\0", e.OPTIONAL | e.TRANSITIVE)  # AGGREGATOR
    link.send(e.update(attributes=bad, nlri=e.prefix(NET)))
    assert (rig.log(), link.routes.alive) == ([("update", NET)], True)
    assert sum(rig.collector.malformed.values()) == 1


def test_a_message_that_cannot_be_read_resets_the_session() -> None:
    rig = Rig()
    link, other = rig.bgp(opened=opened()), rig.bgp(OTHER, opened=opened(OTHER))
    other.send(announce("10.0.0.0/8"))
    link.send(announce(NET, "192.0.2.0/24"))
    # One more route, an NLRI of 33 bits, and a route that is void.
    link.send(
        announce("198.18.0.0/15")
        + e.update(attributes=e.usual(65551), nlri=b"\x21\x0a\0\0\0\0")
        + announce("198.19.0.0/16")
    )
    assert link.notification[:2] == (3, 10)  # UPDATE Message Error, Invalid Network Field
    assert not link.routes.alive
    assert rig.routes() == {OTHER: 1}
    log = rig.log()
    assert log[:4] == [("update", p) for p in ("10.0.0.0/8", NET, "192.0.2.0/24", "198.18.0.0/15")]
    assert sorted(log[4:]) == sorted(("delete", p) for p in (NET, "192.0.2.0/24", "198.18.0.0/15"))
    # What comes after the end is nothing.
    link.send(announce(NET))
    link.close()
    assert len(link.sent) == 1
    assert len(rig.log()) == len(log)


def test_the_notification_carries_what_was_wrong() -> None:
    rig = Rig()
    link = rig.bgp(opened=opened())
    body = b"\xff\xff" + bytes(10)  # Withdrawn Routes Length beyond the message
    link.send(e.message(2, body))
    assert link.notification[:2] == (3, 1)  # Malformed Attribute List


@given(st.lists(messages(four=True, paths=0), max_size=4))
def test_any_messages_end_as_the_naive_parser_says(told: list[bytes]) -> None:
    rig = Rig()
    link = rig.bgp(opened=opened())
    told = [data for data in told if len(data) >= 23 and len(data) == int.from_bytes(data[16:18])]
    routes: dict[object, object] = {}
    reset = None
    for data in told:
        alone = twin.parse(data, four=True, add_path=0)
        if alone.verdict is Verdict.SESSION_RESET:
            reset = alone
            break
        for event, octets in alone.events:
            key = (event[0], event[1], *event[3:6]) if event[0] < 8 else (event[0], event[8])
            routes.pop(key, None)
            if event[7] == 0:
                routes[key] = octets
    link.send(b"".join(told))
    assert link.routes.alive == (reset is None)
    if reset is None:
        assert rig.routes() == {ROUTER: len(routes)}
        assert link.sent == []
    else:
        assert rig.routes() == {}
        assert link.notification[0] == 3
        assert link.notification[2] == reset.data
    updates = sum(kind == "update" for kind, _ in rig.log())
    gone = sum(kind in ("withdraw", "delete") for kind, _ in rig.log())
    assert gone <= updates


# -- limits and refusals


def test_a_peer_past_its_limit_is_warned_of_and_then_told_to_go(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig({"max_prefixes": 10, "warn_prefixes": 50})
    link, other = rig.bgp(opened=opened()), rig.bgp(OTHER, opened=opened(OTHER))
    with caplog.at_level(logging.WARNING):
        link.send(announce(*(f"10.{n}.0.0/16" for n in range(5))))
        assert caplog.messages == []
        for n in range(5, 10):
            link.send(announce(f"10.{n}.0.0/16"))
    assert caplog.messages == [f"bgp peer {ROUTER}: 6 routes of 10 allowed"]
    link.send(announce("10.3.0.0/16", asn=64501))  # no new route
    assert (link.sent, rig.routes()[ROUTER]) == ([], 10)
    other.send(announce("10.0.0.0/8"))
    link.send(announce("10.10.0.0/16"))
    assert link.notification[:2] == (6, 1)  # Cease, Maximum Number of Prefixes Reached
    assert rig.routes() == {OTHER: 1}
    assert [kind for kind, _ in rig.log()].count("delete") == 11
    assert other.routes.alive


def test_a_refused_connection_is_logged_and_counted_and_changes_nothing() -> None:
    rig = Rig()
    link = rig.bgp(opened=opened())
    link.send(announce(NET))
    rig.collector.refuse("bgp", ROUTER, 50001, "it has a session already", rig.now_ns)
    assert rig.collector.refusals == {"it has a session already": 1}
    assert [r["event_type"] for r in rig.rows()] == ["log_init", "log", "log_init"]
    assert [r.get("peer_tcp_port") for r in rig.rows()][::2] == [PORT, 50001]
    assert (link.routes.alive, rig.routes()) == (True, {ROUTER: 1})


# -- refreshes and ends


def test_an_enhanced_refresh_ends_what_was_not_told_again() -> None:
    rig = Rig()
    link = rig.bgp(opened=peer_open())

    def mark(subtype: int) -> bytes:
        return e.message(5, bytes((0, 2, subtype, 1)))

    def told(*hosts: str) -> bytes:
        nlri = b"".join(e.prefix(f"{host}/32") for host in hosts)
        attributes = e.usual(65551, hop=None) + e.mp_reach(2, 1, e.address("2001:db8::1"), nlri)
        return e.update(attributes=attributes)

    link.send(told("2001:db8::", "2001:db9::", "2001:dba::"))
    link.send(mark(1) + told("2001:db9::") + mark(2))
    assert rig.routes() == {ROUTER: 1}
    assert sorted(rig.log()[4:]) == [("delete", "2001:db8::/32"), ("delete", "2001:dba::/32")]
    link.send(mark(2))
    assert rig.routes() == {ROUTER: 1}, "an end without a beginning"


def test_a_closed_connection_takes_its_routes_along() -> None:
    rig = Rig()
    link = rig.bgp(opened=opened())
    link.send(announce(NET))
    link.send(withdraw("10.0.0.0/8"))  # of what is not there
    link.close()
    assert rig.log() == [("update", NET), ("delete", NET)]
    assert (rig.routes(), rig.collector.status()["bgp_sessions"]) == ({}, 0)


# -- restarts


def restarted(rig: Rig) -> None:
    """As if routes had come from disk: no session, and marked as such."""
    for tables in rig.collector.rib.peers():
        tables.session, tables.stale = False, True
        tables.marks.clear()
        tables.end_of_rib.clear()
        for table in tables.tables.values():
            table._marks[:] = 0


def test_routes_of_before_a_restart_live_until_their_peer_is_done() -> None:
    rig = Rig()
    rig.bgp(opened=opened()).send(announce(NET, "10.0.0.0/8"))
    restarted(rig)
    assert rig.collector.status()["stale_peers"] == 1
    link = rig.bgp(opened=opened())
    link.send(announce(NET))
    assert rig.routes() == {ROUTER: 2}
    link.send(e.end_of_rib())
    assert rig.routes() == {ROUTER: 1}
    assert rig.log()[-2:] == [("end-of-rib", None), ("delete", "10.0.0.0/8")]
    assert rig.collector.status()["stale_peers"] == 0


def test_routes_of_before_a_restart_end_in_time(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(stale_for="30s")
    rig.bgp(opened=opened()).send(announce(NET, "10.0.0.0/8"))
    restarted(rig)
    rig.pass_time(25)
    link = rig.bgp(opened=opened())
    link.send(announce(NET))
    # The peer that is back without End-of-RIB has its time from then on.
    rig.pass_time(20)
    assert rig.routes() == {ROUTER: 2}
    rig.pass_time(15)
    assert rig.routes() == {ROUTER: 1}
    assert caplog.messages == [f"bgp peer {ROUTER}: stale routes end"]


def test_routes_whose_peer_does_not_come_back_end_in_time() -> None:
    rig = Rig(stale_for="30s")
    rig.bgp(opened=opened()).send(announce(NET))
    restarted(rig)
    rig.pass_time(29)
    assert rig.routes() == {ROUTER: 1}
    rig.pass_time(5)
    assert rig.routes() == {}
    assert rig.log()[-1] == ("delete", NET)


# -- dumps


def test_every_router_is_dumped_once_a_period() -> None:
    rig = Rig(streams={"bgp_dump": {"every": "60s", "slots": 6}})
    routers = [f"198.51.100.{n}" for n in range(8)]
    for n, router in enumerate(routers):
        rig.bgp(router, opened=opened(router)).send(announce(f"10.{n}.0.0/16"))
    rig.pass_time(300)
    rows = rig.rows("bgp_dump")
    begins = [r["peer_ip_src"] for r in rows if r["event_type"] == "dump_init"]
    whole = {router: begins.count(router) for router in routers}
    assert set(whole.values()) == {5}
    prefixes = [r["ip_prefix"] for r in rows if r["event_type"] == "dump"]
    assert {prefixes.count(f"10.{n}.0.0/16") for n in range(8)} == {5}
    windows = {commit.split("/")[1] for commit in rig.kept.sinks["bgp_dump"].tables}
    assert {int(w) % (10 * SECOND) for w in windows} == {0}


def test_tables_without_a_session_are_dumped_as_well() -> None:
    rig = Rig()
    rig.bgp(opened=opened()).send(announce(NET))
    restarted(rig)
    rig.pass_time(60)
    rows = rig.rows("bgp_dump")
    assert [r["event_type"] for r in rows] == ["dump_init", "dump", "dump_close"]
    assert rows[1]["stale"]


# -- BMP


def test_tables_of_a_bmp_router_come_and_go_with_its_peers() -> None:
    rig = Rig()
    link = rig.bmp()
    pre, post = b.Peer(), b.Peer(flags=0x40)
    other = b.Peer(address="192.0.2.2", bgp_id="192.0.2.2")
    link.send(b.initiation(b.tlv(2, b"r1")))
    for peer in (pre, other):
        link.send(b.peer_up(peer, b.bgp_open(65000, b.four_octet_as(65000)),
                            b.bgp_open(65001, b.four_octet_as(65001))))  # fmt: skip
    for peer, n in ((pre, 1), (post, 2), (other, 3)):
        link.send(b.route_monitoring(peer, announce(f"10.{n}.0.0/16")))
    views = {(t.peer.address, t.peer.view): t.routes for t in rig.collector.rib.peers()}
    assert views == {
        ("192.0.2.1", PolicyView.ADJ_RIB_IN_PRE): 1,
        ("192.0.2.1", PolicyView.ADJ_RIB_IN_POST): 1,
        ("192.0.2.2", PolicyView.ADJ_RIB_IN_PRE): 1,
    }
    link.send(b.peer_down(pre, 4))
    assert rig.routes() == {"192.0.2.2": 1}
    deleted = {prefix for kind, prefix in rig.log("bmp_log") if kind == "delete"}
    assert deleted == {"10.1.0.0/16", "10.2.0.0/16"}
    link.close()
    assert rig.routes() == {}
    told = [r.get("bmp_msg_type") for r in rig.rows("bmp_log")]
    assert told == [
        *(None, "init", "peer_up", "peer_up", *["route_monitor"] * 3, "peer_down"),
        *["internal"] * 3,
    ]


def test_a_malformed_update_in_bmp_is_withdrawn_and_never_ends_the_session() -> None:
    rig = Rig()
    link, peer = rig.bmp(), b.Peer()
    link.send(b.peer_up(peer, b.bgp_open(65000, b.four_octet_as(65000)),
                        b.bgp_open(65001, b.four_octet_as(65001))))  # fmt: skip
    link.send(b.route_monitoring(peer, announce(NET, "10.0.0.0/8")))
    link.send(b.route_monitoring(peer, e.update(attributes=BAD_ORIGIN, nlri=e.prefix(NET))))
    unreadable = e.update(attributes=e.usual(65551), nlri=b"\x21\x0a\0\0\0\0")
    link.send(b.route_monitoring(peer, unreadable))
    assert (rig.routes(), link.routes.alive) == ({"192.0.2.1": 1}, True)
    assert sum(rig.collector.malformed.values()) == 2
    link.send(b.route_monitoring(peer, announce(NET)))
    assert rig.routes() == {"192.0.2.1": 2}


def test_events_of_a_bmp_router_are_in_its_next_dump_alone() -> None:
    rig = Rig()
    link = rig.bmp()
    link.send(b.initiation(b.tlv(2, b"r1")))
    rig.pass_time(60)
    rig.pass_time(60)
    rows = rig.rows("bmp_dump")
    assert [r.get("bmp_msg_type") for r in rows].count("init") == 1
    assert [r["event_type"] for r in rows].count("dump_init") == 2


def test_figures() -> None:
    rig = Rig()
    link = rig.bgp(opened=opened())
    link.send(announce(NET, "10.0.0.0/8"))
    status = rig.collector.status()
    assert (status["bgp_sessions"], status["bmp_sessions"]) == (1, 0)
    assert (status["peers"], status["routes"], status["attribute_sets"]) == (1, 2, 2)
    assert status["table_octets"] > 0
    rig.rows()
    streams = rig.collector.status()["streams"]
    assert streams["bgp_log"] == {"rows": 3, "waiting": 0, "lost": 0}
