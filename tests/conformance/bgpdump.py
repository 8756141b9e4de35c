"""What `bgpdump -m` prints for a recording, and the same of what we read, as tuples.

The messages are taken apart here once more, plainly: what is compared is where messages, peers and
routes of tables are found in a file.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias

from flowray.wire.bgp.mrt import CONTEXTS, MrtPeer, MrtReader, MrtStateChange
from flowray.wire.packets import address_text

Line: TypeAlias = tuple[str, ...]

ORIGINS = ("IGP", "EGP", "INCOMPLETE")
WELL_KNOWN = {"65535:65281": "no-export", "65535:65282": "no-advertise"}
ANNOUNCED, WITHDRAWN = "AW"


def printed(program: Path, file: Path, *options: str) -> list[Line]:
    """Lines of bgpdump, their fields apart."""
    done = subprocess.run(
        [program, "-v", "-m", *options, file], capture_output=True, check=False, timeout=240
    )
    text = done.stdout.decode("ascii", "replace")
    return [tuple(line.split("|")) for line in text.splitlines()]


def as_printed(line: Line, kind: str) -> Line:
    """A line of ours as bgpdump prints it for a record type.

    For the type BGP it prints the peer's address for that of a withdrawn prefix, and communities
    without a bar after the MED.
    """
    if kind == "BGP" and line[1] == WITHDRAWN:
        line = (*line[:4], f"{line[2]}/{line[4].partition('/')[2]}")
    elif kind == "BGP" and line[1] == ANNOUNCED:
        line = (*line[:9], line[9] + line[10], *line[11:])
    return kind, *line


def lines(reader: MrtReader) -> Iterator[Line]:
    """The lines for what a reader gives."""
    for event in reader:
        if isinstance(event, MrtStateChange):
            peer = _peer(reader.peers[event.peer])
            states = str(event.old), str(event.new)
            yield str(event.time_ns // 10**9), "STATE", *peer, *states
            continue
        updates = event.updates
        raw = updates.buf.tobytes()
        peers = [_peer(p) for p in reader.peers]
        for at, octets, context, time_ns, number in zip(
            updates.offset.tolist(),
            updates.length.tolist(),
            updates.context.tolist(),
            updates.time_ns.tolist(),
            event.peer.tolist(),
            strict=True,
        ):
            four = bool(CONTEXTS.four_octets[context])
            path_ids = bool(CONTEXTS.add_path[context])
            message = raw[at : at + octets]
            for action, *rest in update_lines(message, four=four, path_ids=path_ids):
                told = "B" if event.table else action
                yield str(time_ns // 10**9), told, *peers[number], *rest


def _peer(peer: MrtPeer) -> tuple[str, str]:
    zero = peer.hi == peer.lo == 0
    return "0.0.0.0" if zero else address_text(peer.hi, peer.lo), str(peer.asn)


def update_lines(raw: bytes, *, four: bool, path_ids: bool) -> Iterator[Line]:
    """(action, prefix, attributes…) of an UPDATE with its header; nothing is checked."""
    (gone,) = struct.unpack_from(">H", raw, 19)
    withdrawn = raw[21 : 21 + gone]
    at = 21 + gone
    (size,) = struct.unpack_from(">H", raw, at)
    attributes = dict(_attributes(raw[at + 2 : at + 2 + size]))
    for prefix in _prefixes(withdrawn, 4, path_ids=path_ids):
        yield WITHDRAWN, prefix
    values = _values(attributes, four=four)
    announced = list(_prefixes(raw[at + 2 + size :], 4, path_ids=path_ids))
    for prefix in announced:
        hop = ".".join(map(str, attributes.get(3, b"")))
        yield ANNOUNCED, prefix, *values[:2], hop, *values[2:]
    if unreachable := attributes.get(15):
        width = 4 if unreachable[1] == 1 else 16
        for prefix in _prefixes(unreachable[3:], width, path_ids=path_ids):
            yield WITHDRAWN, prefix
    if reachable := attributes.get(14):
        width = 4 if reachable[1] == 1 else 16
        hop_octets = reachable[3]
        hop = str(ip_address(reachable[4 : 4 + width]))
        for prefix in _prefixes(reachable[5 + hop_octets :], width, path_ids=path_ids):
            yield ANNOUNCED, prefix, *values[:2], hop, *values[2:]


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(raw):
        wide = raw[at] & 0x10
        size = int.from_bytes(raw[at + 2 : at + 4], "big") if wide else raw[at + 2]
        begin = at + (4 if wide else 3)
        yield raw[at + 1], raw[begin : begin + size]
        at = begin + size


def _prefixes(raw: bytes, width: int, *, path_ids: bool) -> Iterator[str]:
    at = 0
    while at < len(raw):
        at += 4 if path_ids else 0
        bits = raw[at]
        octets = (bits + 7) // 8
        address = raw[at + 1 : at + 1 + octets].ljust(width, b"\0")
        yield f"{ip_address(address)}/{bits}"
        at += 1 + octets


def _values(attributes: dict[int, bytes], *, four: bool) -> Line:
    path = _path(attributes.get(2, b""), 4 if four else 2)
    if not four and 17 in attributes:
        new = _path(attributes[17], 4)  # RFC 6793 section 4.2.3, without sets
        path = path[: len(path) - len(new)] + new
    pairs = struct.iter_unpack(">HH", attributes.get(8, b""))
    communities = [f"{a}:{b}" for a, b in pairs]
    aggregator = attributes.get(7, b"")
    text = ""
    if aggregator:
        asn = int.from_bytes(aggregator[:-4], "big")
        text = f"{asn} {ip_address(aggregator[-4:])}"
    return (
        " ".join(path),
        ORIGINS[attributes[1][0]] if 1 in attributes else "",
        str(int.from_bytes(attributes.get(5, b""), "big")),
        str(int.from_bytes(attributes.get(4, b""), "big")),
        " ".join(WELL_KNOWN.get(c, c) for c in communities),
        "AG" if 6 in attributes else "NAG",
        text,
        "",
    )


def _path(raw: bytes, width: int) -> list[str]:
    """AS numbers; those of a set as one element."""
    path = []
    at = 0
    while at < len(raw):
        kind, count = raw[at : at + 2]
        at += 2
        numbers = [
            str(int.from_bytes(raw[at + i * width : at + (i + 1) * width], "big"))
            for i in range(count)
        ]
        path += numbers if kind == 2 else ["{" + ",".join(numbers) + "}"]
        at += count * width
    return path
