"""Networks files: which AS, neighbour and next hop an operator says that a network has.

Rows are as pmacct's networks_file has them, `#` and `!` before comments:

    192.0.2.1,64500,64496,198.51.100.0/24
    64500_64496,203.0.113.0/24
    64497,2001:db8::/32
    100.64.0.0/10

A next hop, the AS of the neighbour (before `_` or `,`) and the origin AS may stand before a prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.addresses import MAPPED, address
from flowray.errors import ConfigError
from flowray.rib.lpm import Forest, build, look_up
from flowray.wire.bgp.attribute_store import AttributeColumns

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]

_WORD = (1 << 64) - 1
_MOST_AS = (1 << 32) - 1
_ALLOWED = "[NEXTHOP,][[PEER_AS,]ORIGIN_AS,]PREFIX"


class Network(NamedTuple):
    """A row of the file; 0 for what it does not tell."""

    version: int
    first: int
    plen: int
    next_hop: int = 0
    peer_as: int = 0
    origin_as: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """A networks file, made for look-ups of columns of addresses.

    `columns` tell the origin AS, neighbour and next hop of each row (n,). `with_as` finds rows that
    tell an AS alone, so that a row without does not hide one around it.
    """

    columns: AttributeColumns
    every: Forest
    with_as: Forest

    @classmethod
    def of(cls, networks: list[Network]) -> Networks:
        """Of rows, the first of each network."""
        columns = AttributeColumns.empty(len(networks))
        columns.origin_as[:] = [n.origin_as for n in networks]
        columns.peer_as[:] = columns.peer_as_skip_confed[:] = [n.peer_as for n in networks]
        columns.next_hop_hi[:] = [n.next_hop >> 64 for n in networks]
        columns.next_hop_lo[:] = [n.next_hop & _WORD for n in networks]
        rows = list(enumerate(networks))
        telling = [(i, n) for i, n in rows if n.origin_as or n.peer_as]
        return cls(columns, _forest(rows), _forest(telling))


def find(forest: Forest, address: U64) -> tuple[U32, U8]:
    """Row (n,) uint32 and prefix length (n,) uint8 of the longest match of (2, n) addresses; as
    `look_up` where there is none.
    """
    hi, lo = address
    return look_up(forest, np.zeros(hi.size, np.int64), hi, lo)


def _forest(rows: list[tuple[int, Network]]) -> Forest:
    halves = []
    for version in (4, 6):
        some = [(i, n) for i, n in rows if n.version == version]
        halves.append(
            build(
                version,
                np.array([n.first >> 64 for _, n in some], np.uint64),
                np.array([n.first & _WORD for _, n in some], np.uint64),
                np.array([n.plen for _, n in some], np.uint8),
                np.array([i for i, _ in some], np.uint32),
            )
        )
    return Forest([(halves[0], halves[1])])


def load_networks(path: str | Path) -> Networks:
    """Read a networks file. Raises `ConfigError`, naming file and line."""
    file = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(file, "file", error.strerror or str(error), "a readable file") from None
    except UnicodeDecodeError:
        raise ConfigError(file, "file", "bytes that are not UTF-8", "a text file") from None
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        row = line.split("!")[0].split("#")[0].strip()
        if not row:
            continue
        try:
            found.append(_network(row))
        except ValueError:
            raise ConfigError(f"{file}:{number}", "row", repr(row[:80]), _ALLOWED) from None
    return Networks.of(found)


def _network(row: str) -> Network:
    *told, prefix = (part.strip() for part in row.split(","))
    network = ip_network(prefix, strict=False)
    first = int(network.network_address) | (MAPPED if network.version == 4 else 0)
    next_hop = address(told.pop(0)) if told and not told[0].replace("_", "").isdecimal() else 0
    numbers = [_as_number(number) for part in told for number in part.split("_")]
    if len(numbers) > 2:
        raise ValueError(row)
    origin_as = numbers[-1] if numbers else 0
    peer_as = numbers[0] if len(numbers) == 2 else 0
    return Network(network.version, first, network.prefixlen, next_hop, peer_as, origin_as)


def _as_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > _MOST_AS:
        raise ValueError(text)
    return int(text)
