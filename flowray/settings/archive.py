"""What flowray.yaml says of the archive: raw datagrams, and what routers told of routes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from flowray.settings.base import Location, Model
from flowray.settings.quantities import Duration, Octets

SECOND = 1_000_000_000


class Archive(Model):
    """Where raw input is kept, and in what files. `path` is a folder or a URI of object storage."""

    path: Location
    datagrams: bool = True
    routes: bool = True
    rotate: Annotated[Duration, Field(ge=SECOND)] = 300 * SECOND
    rotate_octets: Annotated[Octets, Field(ge=1 << 20, le=1 << 30)] = 128 << 20
    compression: int = Field(default=3, ge=1, le=19)
    spool: Path = Path("data/spool")
    spool_octets: Annotated[Octets, Field(ge=1 << 20)] = 4 << 30
    memory: Annotated[Octets, Field(ge=1 << 20)] = 64 << 20
