"""Batches of UDP payloads, and the dense numbering of the exporters that sent them."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowray.wire.packets_kernels import copy_payloads, intern_addresses

__all__ = ["OVERFLOW_EXPORTER", "Exporters", "PacketBatch", "address_text", "address_words"]

OVERFLOW_EXPORTER = 0
"""Exporter id that stands for every address beyond the limit of an `Exporters`; its text is ::."""

_WORD = (1 << 64) - 1
_V4_MAPPED = 0xFFFF << 32


@dataclass(slots=True)
class PacketBatch:
    """UDP payloads in one buffer; entry *i* is ``buf[offset[i] : offset[i] + length[i]]``.

    `buf` may be a mapped file or a receive ring: it is shared and must not be written to.
    """

    buf: NDArray[np.uint8]  # (bytes,)
    offset: NDArray[np.int64]  # (n,) start of the payload in buf
    length: NDArray[np.int64]  # (n,) bytes of payload
    exporter: NDArray[np.uint32]  # (n,) id in the Exporters of this shard
    arrival: NDArray[np.int64]  # (n,) ns since the epoch, never decreasing
    port: NDArray[np.uint16] | None = None  # (n,) UDP destination port, where known

    def __len__(self) -> int:
        return len(self.offset)

    def slice(self, start: int, stop: int) -> PacketBatch:
        """Entries start..stop-1, without copying anything."""
        return PacketBatch(
            self.buf,
            self.offset[start:stop],
            self.length[start:stop],
            self.exporter[start:stop],
            self.arrival[start:stop],
            None if self.port is None else self.port[start:stop],
        )

    def payload(self, index: int) -> bytes:
        """A copy of one payload: for control packets and tests, never for the data path."""
        start = int(self.offset[index])
        return self.buf[start : start + int(self.length[index])].tobytes()

    @staticmethod
    def gather(parts: Sequence[PacketBatch], order: NDArray[np.int64]) -> PacketBatch:
        """One batch with a buffer of its own out of several.

        `order` is (n,) int64, a permutation of the rows of all parts counted one after another:
        row i of the result is row ``order[i]``.  `port` survives if every part has it.
        """
        length = np.concatenate([part.length for part in parts])[order]
        offset = np.zeros(len(order), np.int64)
        np.cumsum(length[:-1], out=offset[1:])
        target = np.empty(len(order), np.int64)
        target[order] = offset
        buf = np.empty(int(length.sum()), np.uint8)
        first = 0
        for part in parts:
            place = target[first : first + len(part)]
            copy_payloads(part.buf, part.offset, part.length, place, buf)
            first += len(part)
        ports = [part.port for part in parts if part.port is not None]
        return PacketBatch(
            buf,
            offset,
            length,
            np.concatenate([part.exporter for part in parts])[order],
            np.concatenate([part.arrival for part in parts])[order],
            np.concatenate(ports)[order] if len(ports) == len(parts) else None,
        )


def address_words(text: str) -> tuple[int, int]:
    """(hi, lo) 64-bit words of an address text, IPv4 as v4-mapped (RFC 4291 section 2.5.5.2).

    Raises ValueError if `text` is not an address.
    """
    address = ipaddress.ip_address(text)
    value = int(address)
    if address.version == 4:
        value |= _V4_MAPPED
    return value >> 64, value & _WORD


def address_text(hi: int, lo: int) -> str:
    """Text of the address with these words; v4-mapped ones come out as a plain dotted quad."""
    address = ipaddress.IPv6Address(hi << 64 | lo)
    return str(address.ipv4_mapped or address)


class Exporters:
    """Dense uint32 ids for exporter addresses, in order of first sight, from 1.

    At most `limit` addresses are told apart, so that spoofed senders cannot exhaust memory: each
    further one is id 0 (`OVERFLOW_EXPORTER`) and counted in `overflowed`.  The unset address :: is
    id 0 as well.  Not for several threads at once.
    """

    def __init__(self, limit: int = 65536) -> None:
        if not 0 < limit < 1 << 31:
            msg = f"limit of exporters: found {limit}, allowed 1 to {(1 << 31) - 1}"
            raise ValueError(msg)
        self.limit = limit
        self.overflowed = 0
        slots = 1 << (2 * limit).bit_length()  # at most half full: probes stay short
        self._slots = np.zeros(slots, np.uint32)
        self._hi = np.zeros(limit + 1, np.uint64)
        self._lo = np.zeros(limit + 1, np.uint64)
        self._used = 1
        # A secret seed keeps a sender from choosing source addresses that collide.
        self._seed = np.uint64(secrets.randbits(64))

    def __len__(self) -> int:
        """Ids in use, the overflow exporter included."""
        return self._used

    @property
    def hi(self) -> NDArray[np.uint64]:
        """(len,) high word of the address by id."""
        return self._hi[: self._used]

    @property
    def lo(self) -> NDArray[np.uint64]:
        """(len,) low word of the address by id."""
        return self._lo[: self._used]

    def intern(self, hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Ids, (n,) uint32, of the addresses whose words are `hi` and `lo`, each (n,) uint64."""
        if len(hi) != len(lo):
            msg = f"address words: found {len(hi)} high and {len(lo)} low, allowed equal counts"
            raise ValueError(msg)
        ids = np.empty(len(hi), np.uint32)
        self._used, overflowed = intern_addresses(
            hi, lo, self._slots, self._hi, self._lo, self._used, self._seed, ids
        )
        self.overflowed += overflowed
        return ids

    def intern_one(self, text: str) -> int:
        """Id of an address text; raises ValueError if it is not an address."""
        hi, lo = address_words(text)
        return int(self.intern(np.array([hi], np.uint64), np.array([lo], np.uint64))[0])

    def restore(self, hi: NDArray[np.uint64], lo: NDArray[np.uint64], overflowed: int) -> None:
        """Give the ids of another, whose address words by id these are, (n,) each. None is given
        here yet.
        """
        self.intern(hi[1:], lo[1:])
        self.overflowed = overflowed

    def address(self, exporter: int) -> str:
        """Address text of an id, IPv4 dotted; raises IndexError for an id never given."""
        if not 0 <= exporter < self._used:
            msg = f"exporter id: found {exporter}, allowed 0 to {self._used - 1}"
            raise IndexError(msg)
        return address_text(int(self._hi[exporter]), int(self._lo[exporter]))
