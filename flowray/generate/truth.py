"""The ground truth of generated traffic: columns of what was put into the datagrams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from flowray.generate.rows import I64, U64


@dataclass(frozen=True, slots=True)
class Truth:
    """One row per generated data record (sFlow: per flow sample), all columns (n,).

    Addresses are two words, IPv4 v4-mapped. `packets` and `octets` are as exported, not multiplied
    by `sampling`, the rate that the exporter announces (1 if none). `start_ms`, `end_ms` are ms
    since the epoch, 0 for sFlow, which says nothing of time; its `octets` are the frame length with
    FCS and its `packets` 1.
    """

    exporter_hi: U64
    exporter_lo: U64
    src_hi: U64
    src_lo: U64
    dst_hi: U64
    dst_lo: U64
    src_port: U64
    dst_port: U64
    proto: U64
    in_iface: U64
    out_iface: U64
    packets: U64
    octets: U64
    sampling: U64
    start_ms: I64
    end_ms: I64

    def __len__(self) -> int:
        return len(self.src_hi)

    @classmethod
    def of(cls, count: int, **columns: Any) -> Truth:
        """Rows from arrays (count,) or scalars."""
        rows: dict[str, Any] = {}
        for column in fields(cls):
            kind = np.int64 if column.name.endswith("_ms") else np.uint64
            rows[column.name] = np.broadcast_to(np.asarray(columns[column.name], kind), (count,))
        return cls(**rows)

    @classmethod
    def joined(cls, parts: Iterable[Truth]) -> Truth:
        """All rows of `parts`, in order; no parts give no rows."""
        known = [*parts] or [cls.of(0, **{column.name: 0 for column in fields(cls)})]
        return cls(
            **{
                column.name: np.concatenate([getattr(part, column.name) for part in known])
                for column in fields(cls)
            }
        )

    def sums(
        self, keys: Sequence[str], *, scaled: bool = False
    ) -> dict[tuple[int, ...], tuple[int, int, int]]:
        """Totals by `keys`: {values: (records, packets, octets)}; `scaled` by the rates."""
        factor = self.sampling if scaled else np.uint64(1)
        matrix = np.stack([getattr(self, name).astype(np.uint64) for name in keys], axis=1)
        unique, group = np.unique(matrix, axis=0, return_inverse=True)
        totals = [
            _total(group.reshape(-1), len(unique), values)
            for values in (
                np.ones(len(self), np.uint64),
                self.packets * factor,
                self.octets * factor,
            )
        ]
        rows = zip(*(total.tolist() for total in totals), strict=True)
        return {
            tuple(key): (records, packets, octets)
            for key, (records, packets, octets) in zip(unique.tolist(), rows, strict=True)
        }


def _total(group: npt.NDArray[Any], size: int, values: U64) -> U64:
    out = np.zeros(size, np.uint64)
    np.add.at(out, group, values)
    return out
