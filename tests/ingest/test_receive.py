import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.ingest.ledger import Ledger
from flowray.ingest.listen import ListenError, listen
from flowray.ingest.receive import REFUSED_TOLD_APART, Receiver
from flowray.ingest.slots import HEAD, Slots
from flowray.wire.packets import Exporters, address_words

ARRIVAL = 1_700_000_000_000_000_000
PATIENCE = 5.0


def receiver(*urls: str, allow: Sequence[str] = (), **options: Any) -> tuple[Receiver, Exporters]:
    exporters = Exporters()
    return Receiver(urls, exporters, Ledger(exporters), allow=allow, **options), exporters


def send(
    port: int, *payloads: bytes, source: str = "127.0.0.1", family: int = socket.AF_INET
) -> None:
    target = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if source:
            sock.bind((source, 0))
        for payload in payloads:
            sock.sendto(payload, (target, port))


def everything(r: Receiver) -> list[tuple[bytes, str]]:
    """All (payload, address) that wait, without copying the batch's own figures."""
    found: list[tuple[bytes, str]] = []
    while (batch := r.receive(0.05)) is not None:
        found += [
            (batch.payload(i), r._exporters.address(int(batch.exporter[i])))
            for i in range(len(batch))
        ]
    return found


def test_dual_stack_socket_takes_both_families() -> None:
    r, _ = receiver("udp://[::]:0", clock=lambda: ARRIVAL)
    port = r.listeners[0].port
    send(port, b"four", source="127.0.0.7")
    send(port, b"six", source="::1", family=socket.AF_INET6)
    assert sorted(everything(r)) == [(b"four", "127.0.0.7"), (b"six", "::1")]
    assert r.datagrams == 2
    assert r.octets == 7
    r.close()


def test_arrival_is_the_clock_and_never_decreases() -> None:
    times = iter([ARRIVAL, ARRIVAL - 5, ARRIVAL + 3])
    r, _ = receiver("udp://127.0.0.1:0", clock=lambda: next(times))
    seen: list[Any] = []
    for payload in (b"a", b"b", b"c"):
        send(r.listeners[0].port, payload)
        batch = r.receive(PATIENCE)
        assert batch is not None
        seen += batch.arrival.tolist()
    assert seen == [ARRIVAL, ARRIVAL, ARRIVAL + 3]
    r.close()


def test_several_sockets_end_in_one_batch() -> None:
    r, _ = receiver("udp://127.0.0.1:0", "udp://[::1]:0", "udp://127.0.0.1:0")
    for number, listener in enumerate(r.listeners):
        family = listener.family
        source = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        send(listener.port, b"%d" % number, source=source, family=family)
    batch = r.receive(PATIENCE)
    assert batch is not None
    assert sorted(batch.payload(i) for i in range(len(batch))) == [b"0", b"1", b"2"]
    r.close()


@pytest.mark.parametrize("size", [0, 1, HEAD - 1, HEAD, HEAD + 1, 9000, 65_507])
def test_datagrams_of_any_size_are_whole(size: int) -> None:
    r, _ = receiver("udp://127.0.0.1:0")
    payload = np.random.default_rng(size).bytes(size)
    send(r.listeners[0].port, b"before", payload, b"after")
    assert [p for p, _ in everything(r)] == [b"before", payload, b"after"]
    r.close()


def test_batches_are_bounded_by_the_slots() -> None:
    slots = Slots(16)
    r, _ = receiver("udp://127.0.0.1:0", slots=slots)
    payloads = [b"%d" % i for i in range(50)]
    send(r.listeners[0].port, *payloads)
    sizes: list[int] = []
    seen: list[bytes] = []
    while (batch := r.receive(0.05)) is not None:
        sizes.append(len(batch))
        seen += [batch.payload(i) for i in range(len(batch))]
        assert not r.room or slots.used == 2
        slots.restart()
    assert seen == payloads
    assert max(sizes) == 16
    r.close()


def test_senders_that_are_not_allowed_are_accounted_and_left_out() -> None:
    r, _ = receiver("udp://[::]:0", allow=["127.0.1.0/24", "::1"])
    port = r.listeners[0].port
    send(port, b"good", source="127.0.1.9")
    send(port, b"bad", b"bad", source="127.0.2.9")
    send(port, b"six", source="::1", family=socket.AF_INET6)
    assert sorted(everything(r)) == [(b"good", "127.0.1.9"), (b"six", "::1")]
    accounts = r._ledger.snapshot()["exporters"]
    assert accounts == {"127.0.2.9": {"datagrams": 2, "refused": 2}}
    assert r.refused == 2
    r.close()


def test_refused_addresses_do_not_use_up_exporter_numbers() -> None:
    r, exporters = receiver("udp://127.0.0.1:0", allow=["192.0.2.0/24"])
    lo = np.arange(5000, dtype=np.uint64) + np.uint64(0xFFFF_0A00_0000)
    for part in np.split(lo, 50):
        r._refuse(np.zeros(100, np.uint64), part)
    assert len(exporters) <= REFUSED_TOLD_APART + 101
    totals = r._ledger.snapshot()["exporters"].values()
    assert sum(row["refused"] for row in totals) == 5000
    r.close()


def test_kernel_drops_are_counted() -> None:
    r, _ = receiver("udp://127.0.0.1:0", buffer_octets=8192)
    send(r.listeners[0].port, *[b"x" * 1000] * 500)
    r.watch()
    dropped = sum(r.kernel_drops.values())
    assert dropped > 0
    assert r.full > 0.5
    assert len(everything(r)) + dropped == 500
    r.close()


def test_a_socket_turned_away_keeps_its_queue_and_gets_no_more() -> None:
    old, _ = receiver("udp://127.0.0.1:0")
    port = old.listeners[0].port
    send(port, *[b"before"] * 20)
    new, _ = receiver(f"udp://127.0.0.1:{port}")
    old.turn_away()
    for number in range(40):  # whichever source port: all go to the new one
        send(port, b"after", source=f"127.0.0.{number + 1}")
    assert [p for p, _ in everything(old)] == [b"before"] * 20
    assert [p for p, _ in everything(new)] == [b"after"] * 40
    old.close()
    new.close()


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            listen(f"udp://127.0.0.1:{port}", 1 << 16)
    assert str(caught.value) == f"cannot listen on udp://127.0.0.1:{port}: Address already in use"


def test_nothing_comes_from_closed_sockets() -> None:
    r, _ = receiver("udp://127.0.0.1:0")
    r.close()
    assert r.take() is None
    assert r.watch() == 0
    assert len(r.kernel_drops) == 1


@given(st.lists(st.ip_addresses(v=4) | st.ip_addresses(v=6), min_size=1, max_size=20))
def test_sender_addresses_as_their_words(addresses: list[IPv4Address | IPv6Address]) -> None:
    slots = Slots(len(addresses))
    for i, address in enumerate(addresses):
        mapped = address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")
        slots._names[i, :2] = socket.AF_INET6, 0
        slots._names[i, 8:24] = np.frombuffer(mapped.packed, np.uint8)
    hi, lo = slots.addresses(0, len(addresses))
    got = [*zip(hi.tolist(), lo.tolist(), strict=True)]
    assert got == [address_words(str(address)) for address in addresses]


@given(st.lists(st.ip_addresses(v=4) | st.ip_addresses(v=6), min_size=1, max_size=20))
def test_sender_addresses_of_sockets_of_both_kinds(
    addresses: list[IPv4Address | IPv6Address],
) -> None:
    slots = Slots(len(addresses))
    for i, address in enumerate(addresses):
        if isinstance(address, IPv4Address):
            slots._names[i, :2] = socket.AF_INET, 0
            slots._names[i, 4:8] = np.frombuffer(address.packed, np.uint8)
        else:
            slots._names[i, :2] = socket.AF_INET6, 0
            slots._names[i, 8:24] = np.frombuffer(address.packed, np.uint8)
    hi, lo = slots.addresses(0, len(addresses))
    got = [*zip(hi.tolist(), lo.tolist(), strict=True)]
    assert got == [address_words(str(address)) for address in addresses]
