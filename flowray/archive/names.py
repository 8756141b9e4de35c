"""Names of the files of an archive, by which they are found without a look inside.

`<kind>/date=2026-11-25/hour=10/<first>_<last>_<number>_<life>_<owner>.<extension>`: partitions as
Hive has them (UTC, of `first`), the times of the first and the last thing in the file (ns since the
epoch), the number of the file among those of one life of its owner, and that life: the incarnation
of a shard, the start of a RIB group.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Final, Literal, Self, TypeAlias, get_args
from urllib.parse import quote, unquote

__all__ = ["EXTENSIONS", "FileName", "Kind"]

Kind: TypeAlias = Literal["datagrams", "events", "routes", "tables"]
"""Raw datagrams; what else a shard was told, in order with them; messages of routers; tables that a
RIB group began with.
"""

EXTENSIONS: Final[dict[Kind, str]] = {
    "datagrams": "parquet",
    "events": "parquet",
    "routes": "mrt.gz",
    "tables": "rib",
}

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, order=True)
class FileName:
    """What the name of a file says. Times are ns since the epoch."""

    first_ns: int
    last_ns: int
    number: int
    life: str
    owner: str
    kind: Kind

    @property
    def path(self) -> str:
        """Relative to the archive."""
        at = datetime.fromtimestamp(self.first_ns // _SECOND, UTC)
        name = f"{self.first_ns:019d}_{self.last_ns:019d}_{self.number:06d}_{self.life}"
        name = f"{name}_{quote(self.owner, safe='')}.{EXTENSIONS[self.kind]}"
        return f"{self.kind}/date={at:%Y-%m-%d}/hour={at:%H}/{name}"

    @property
    def origin(self) -> tuple[str, str]:
        """Owner and life: files of one are numbered."""
        return self.owner, self.life

    @classmethod
    def of(cls, path: str) -> Self | None:
        """From a path relative to the archive; None for a file that is none of ours."""
        parts = PurePosixPath(path).parts
        kind = next((kind for kind in get_args(Kind) if parts and parts[0] == kind), None)
        if kind is None or parts[-1].startswith(".") or not path.endswith(f".{EXTENSIONS[kind]}"):
            return None
        fields = parts[-1].removesuffix(f".{EXTENSIONS[kind]}").split("_", 4)
        if len(fields) != 5 or not all(field.isdecimal() for field in fields[:3]):
            return None
        first, last, number = map(int, fields[:3])
        return cls(first, last, number, fields[3], unquote(fields[4]), kind)
