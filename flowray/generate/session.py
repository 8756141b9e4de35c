"""A BGP session as a capture has it: what the router sends, from SYN on."""

from __future__ import annotations

import os
from ipaddress import IPv4Address

import numpy as np

from flowray.generate.frames import ETHERTYPE_V4, ethernet, ipv4, stack, tcp
from flowray.generate.routes import Messages
from flowray.generate.speaker import END_OF_RIB, KEEPALIVE, open_message
from flowray.wire.pcap import PcapWriter

BGP_PORT = 179
SEGMENT = 1448
SYN, ACK = 0x02, 0x10
_HEADERS = 14 + 20 + 20


def write_session(
    path: str | os.PathLike[str],
    messages: Messages,
    router: str,
    collector: str,
    *,
    asn: int,
    bgp_id: str = "198.51.100.1",
    start_ns: int,
    end_ns: int,
) -> None:
    """Write a session in which a router (IPv4 addresses both) announces `messages` and ends its
    initial routes, evenly spread over the time.
    """
    stream = open_message(asn, bgp_id) + KEEPALIVE + messages.buf.tobytes() + END_OF_RIB
    cuts = [0, 0, *range(SEGMENT, len(stream), SEGMENT), len(stream)]  # the SYN is empty
    begin, size = np.array(cuts[:-1]), np.diff(cuts)
    count = len(begin)
    flags = np.where(np.arange(count) == 0, SYN, ACK)
    headers = stack(
        ethernet(count, 0x02_00_00_00_00_01, 0x02_00_00_00_00_02, ETHERTYPE_V4),
        ipv4(
            count,
            src=int(IPv4Address(router)),
            dst=int(IPv4Address(collector)),
            proto=6,
            total_length=size + _HEADERS - 14,
        ),
        # The SYN takes a number of its own.
        tcp(
            count,
            src_port=50_179,
            dst_port=BGP_PORT,
            flags=flags,
            sequence=begin + 1000 + (np.arange(count) > 0),
        ),
    )
    frames = [
        header.tobytes() + stream[at : at + length]
        for header, at, length in zip(headers, begin.tolist(), size.tolist(), strict=True)
    ]
    with PcapWriter(path) as writer:
        writer.write_frames(frames, np.linspace(start_ns, end_ns, count).astype(np.int64))
