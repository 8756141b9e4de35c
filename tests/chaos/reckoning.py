"""What was sent against what was committed: record by record, and declared against missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowray.generate.numbered import Account, NumberedExporter


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one exporter: its records, and how many the ledger declares lost."""

    address: str
    account: Account
    declared: int

    @property
    def problems(self) -> list[str]:
        """What must not be, one line each."""
        a = self.account
        found = []
        if a.repeated:
            found.append(f"{self.address}: {a.repeated} records committed more than once")
        if a.foreign:
            found.append(f"{self.address}: {a.foreign} records committed that were never sent")
        if a.missing != self.declared:
            found.append(f"{self.address}: {a.missing} records missing, {self.declared} declared")
        return found


def verdicts(
    exporters: Sequence[NumberedExporter], rows: pa.Table, ledger: dict[str, Any]
) -> list[Verdict]:
    """By exporter, from rows (peer_ip_src, ip_src: texts) of a view that reduces nothing."""
    exporter, source = rows["peer_ip_src"], rows["ip_src"]
    out = []
    for one in exporters:
        mine = pc.filter(source, pc.equal(exporter, one.address))
        account = Account.of(one.sent, [numbers(mine)])
        out.append(
            Verdict(one.address, account, declared(ledger["exporters"].get(one.address, {})))
        )
    return out


def declared(accounts: dict[str, int]) -> int:
    """Records that an exporter's sequence numbers say were lost on the way."""
    return accounts.get("sequence_gap", 0)


def numbers(addresses: pa.ChunkedArray) -> npt.NDArray[np.uint32]:
    """IPv4 addresses as numbers (n,)."""
    octets = pc.list_flatten(pc.split_pattern(addresses.cast(pa.string()), "."))
    parts = octets.cast(pa.uint32()).to_numpy().reshape(-1, 4)
    shifts = np.array([24, 16, 8, 0], np.uint32)
    return np.bitwise_or.reduce(parts << shifts, axis=1)
