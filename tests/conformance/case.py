"""Case folders of the conformance pack: recordings, what is asked for, what must come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT = "conformance-case/1"


class CaseError(Exception):
    """A folder that is no case, or whose files are not there; the message is one line."""


class _Model(BaseModel):
    """A part of case.json, of which the driver reads the members declared here."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Addresses(_Model):
    text_replacements: list[tuple[str, str]] = []

    def replace(self, text: str) -> str:
        for old, new in self.text_replacements:
            text = text.replace(old, new)
        return text


class Exporter(_Model):
    in_pcap: str = ""
    present_as: str


class Take(_Model):
    l4: str
    dst_port: int
    into: str


class Facts(_Model):
    sets_without_template: dict[str, int] = {}


class Repeat(_Model):
    """How often each capture of a feed is played."""

    times: list[int]
    order: Literal["round-robin"] = "round-robin"


class Feed(_Model):
    id: str
    pcaps: list[str]
    exporter: Exporter
    take: list[Take]
    speed: str = "pcap timing"
    repeat: Repeat | None = None
    after_last_packet: str = "close"
    facts: list[Facts] = []

    @property
    def gaps(self) -> float:
        """What the time between packets is multiplied by."""
        return float(self.speed.removeprefix("pcap gaps x ")) if " x " in self.speed else 1.0


class Flow(_Model):
    """What the flow stream is asked for. Names are JSON keys."""

    fields: list[str]
    custom_fields: list[str] = []
    bucket_seconds: int
    bucket_origin: str = "whole minute"
    bucket_by: str = "arrival time (not flow time)"
    multiply_by_sampling: bool = False
    routes_from: str = "none"
    min_max_timestamps_emitted: bool = False


class Listen(_Model):
    """Where BGP or BMP sessions are accepted."""

    address: str = "::"
    upstream_port: int = 0
    max_peers: int = 1000
    local_as: int = 0
    router_id: str = "192.0.2.1"


class Collector(_Model):
    listen: dict[str, Listen] = {}
    writer_id: dict[str, str] = {}
    flow: Flow | None = None
    maps: dict[str, Any] = {}
    encode: dict[str, str] = {}
    streams: dict[str, Any] = {}


class Reference(_Model):
    file: str


class Variant(_Model):
    id: str
    collector: Collector
    expected: dict[str, Reference] = {}


class Step(_Model):
    do: str
    feeds: list[str] = []
    stream: str = ""
    ref: str = ""
    ignore: list[str] = []
    match: Literal["exact", "many_to_one"] = "exact"
    max_copies: int | None = None
    clock: str = ""
    count: int = 0
    upstream_limit_mib: int = 0
    swap: dict[str, str] = {}


class Stale(_Model):
    ignore_in_addition: list[str] = []


class Case(_Model):
    """One case.json and the folder it stands in."""

    format: str
    id: str
    folder: Path
    addresses: Addresses = Addresses()
    feeds: list[Feed]
    variants: list[Variant] = Field(min_length=1)
    steps: list[Step]
    events: dict[str, list[dict[str, Any]]] = {}
    stale_reference: Stale = Stale()

    def wanted_later(self, step: Step) -> bool:
        """Whether another step behind this one expects records of the same stream."""
        at = next(i for i, one in enumerate(self.steps) if one is step)
        return any(s.do == "expect" and s.stream == step.stream for s in self.steps[at + 1 :])

    def feed(self, name: str) -> Feed:
        for feed in self.feeds:
            if feed.id == name:
                return feed
        raise CaseError(f"{self.folder}: no feed {name!r}")

    def path(self, name: str) -> Path:
        """A file of the case. Raises CaseError if it is missing."""
        path = self.folder / name
        if not path.is_file():
            raise CaseError(f"{path}: no such file, which case.json names")
        return path

    def expected(self, variant: Variant, ref: str) -> list[dict[str, Any]]:
        """The records of a reference, with the addresses that exporters present themselves with."""
        if ref not in variant.expected:
            raise CaseError(f"{self.folder}: variant {variant.id} has no reference {ref!r}")
        path = self.path(variant.expected[ref].file)
        text = self.addresses.replace(path.read_text(encoding="utf-8"))
        return [json.loads(line) for line in text.splitlines() if line.strip()]

    def ignored(self, step: Step) -> frozenset[str]:
        return frozenset((*step.ignore, *self.stale_reference.ignore_in_addition))


def load_case(folder: Path) -> Case:
    """Read a case folder. Raises CaseError."""
    file = folder / "case.json"
    if not folder.is_dir():
        raise CaseError(f"{folder}: no such folder")
    if not file.is_file():
        raise CaseError(f"{folder}: no case.json in it")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        case = Case.model_validate(content | {"folder": folder})
    except (OSError, ValueError, TypeError) as error:
        raise CaseError(f"{file}: {_cause(error)}") from None
    if case.format != FORMAT:
        raise CaseError(f"{file}: format {case.format!r}, this program reads {FORMAT}")
    return case


def _cause(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def case_folders(paths: list[Path]) -> list[Path]:
    """Case folders among and directly below the paths. Raises CaseError for a path without any."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise CaseError(f"{path}: no such folder")
        below = sorted(file.parent for file in path.glob("*/case.json"))
        if (path / "case.json").is_file():
            found.append(path)
        elif below:
            found += below
        else:
            raise CaseError(f"{path}: no case.json in it")
    return found
