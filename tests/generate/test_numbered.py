"""Exporters with numbered records, decoded by the real decoder."""

from ipaddress import IPv4Address

import numpy as np
import pytest

from flowray.generate.numbered import Account, NumberedExporter, octets_of, packets_of
from tests.ingest.decoding import T0, decode


@pytest.mark.parametrize("protocol", ["ipfix", "v5"])
def test_every_record_carries_its_number(protocol: str) -> None:
    exporter = NumberedExporter("192.0.2.1", protocol)
    sent = [*exporter.datagrams(2, T0 * 10**9), *exporter.datagrams(1, T0 * 10**9)]
    told = decode(*sent)
    number = np.arange(30)
    assert exporter.sent == 30
    assert told.column("packets") == packets_of(number).tolist()
    assert told.column("bytes") == octets_of(number).tolist()
    assert "sequence_gap" not in told.accounts
    sources = np.array([int(IPv4Address(a)) for a in told.column("ip_src")], np.uint32)
    assert Account.of(30, [sources]) == Account(30, 30, 0, 0, 0)


def test_what_is_missing_and_what_is_repeated_is_told() -> None:
    first = 10 << 24
    sources = [np.array([first, first + 2, first + 2], np.uint32), np.array([7], np.uint32)]
    assert Account.of(4, sources) == Account(4, 3, 2, 1, 1)


@pytest.mark.parametrize("protocol", ["ipfix", "v5"])
def test_a_lost_datagram_is_a_gap_of_its_records(protocol: str) -> None:
    exporter = NumberedExporter("192.0.2.1", protocol)
    sent = list(exporter.datagrams(3, T0 * 10**9))
    del sent[-2]
    assert decode(*sent).accounts["sequence_gap"] == 10
