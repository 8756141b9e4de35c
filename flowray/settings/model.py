"""pydantic models of flowray.yaml. config/default.yaml shows every option with its default and what
it does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from flowray.settings.archive import Archive
from flowray.settings.base import Location, Model, Name, Prefix, UdpUrl, misplaced
from flowray.settings.cluster import Cluster
from flowray.settings.operations import Gateway, Logs, Metrics
from flowray.settings.quantities import Duration, Octets
from flowray.settings.redis import Live, Redis
from flowray.settings.routes import BgpListen, BmpListen, RouteGroup, Routes


class Listen(Model):
    """Where telemetry arrives."""

    flows: list[UdpUrl] = ["udp://127.0.0.1:2055", "udp://127.0.0.1:6343"]
    allow: list[Prefix] = []
    proxies: list[Prefix] = []
    receive_buffer: Octets = 16 << 20
    ring: Octets = 128 << 20
    bgp: BgpListen | None = None
    bmp: BmpListen | None = None


class Decode(Model):
    """Switches and bounds of decoding."""

    time_precision: Literal["s", "ns"] = "ns"
    boot_time_from_options: bool = True
    exporter_address: Literal["told", "source"] = "told"
    sflow_bytes: Literal["frame", "ip"] = "frame"
    tunnels: list[Literal["gre", "ipip", "vxlan", "gtp", "geneve"]] = []
    hold: bool = True
    hold_per_exporter: Octets = 1 << 20
    hold_total: Octets = 64 << 20
    hold_for: Duration = 1800 * 1_000_000_000
    exporters: int = Field(default=65536, ge=1, le=1 << 24)
    templates_per_exporter: int = Field(default=4096, ge=1)
    template_idle: Duration = 1800 * 1_000_000_000


class Maps(Model):
    """Operator maps in pmacct's syntax."""

    labels: Path | None = None
    labels_apply_to: list[Literal["flows", "bgp", "bmp"]] = ["flows"]
    sampling: Path | None = None
    exporters: Path | None = None
    fields: Path | None = None


class Encoding(Model):
    """How values are written; see `flowray.sinks.encoding.Encoding`."""

    records: Literal["rows", "plain", "null-filled"] = "rows"
    labels: Literal["text", "map"] = "text"
    tcp_flags: Literal["list", "int"] = "list"
    forwarding_status: Literal["text", "number"] = "text"
    mpls_label_stack: Literal["list", "text"] = "list"
    as_path: Literal["list", "text"] = "text"
    communities: Literal["list", "text"] = "text"
    timestamps: Literal["epoch", "rfc3339", "text"] = "rfc3339"
    precision: Literal["s", "ms", "us", "ns"] = "us"
    protocols: Literal["name", "number"] = "name"
    tos: Literal["tos", "dscp"] = "tos"
    writer_id: str = ""


class View(Model):
    """One view of the traffic, or of the counters that sFlow agents send."""

    name: Name
    of: Literal["flows", "counters"] = "flows"
    keys: list[str] = Field(default=[], validate_default=True)
    counters: list[Literal["packets", "bytes", "flows"]] = ["packets", "bytes", "flows"]
    filter: str | None = None
    sample: int = Field(default=1, ge=1, le=1_000_000)
    window: Duration | None = None
    time: Literal["arrival", "start"] = "arrival"
    align: Duration = 0
    lateness: Duration = 0
    split: bool = False
    renormalise: bool = True
    max_keys: int = Field(default=1_000_000, ge=1)
    partitions: int = Field(default=1, ge=1, le=64)
    encoding: Encoding = Encoding()
    sinks: list[str] = []

    @field_validator("keys")
    @classmethod
    def _keyed(cls, keys: list[str], info: ValidationInfo) -> list[str]:
        if not keys and info.data.get("of") == "flows":
            raise ValueError("at least one field; only a view of counters may leave keys out")
        return keys

    # Validators see what a configuration says, not defaults.
    @field_validator(
        *("counters", "filter", "sample", "window", "time", "align", "lateness", "split"),
        *("renormalise", "max_keys", "partitions"),
    )
    @classmethod
    def _of_flows(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("of") == "counters":
            raise ValueError("nothing: a view of counters has name, of, keys, encoding and sinks")
        return value

    @field_validator("encoding")
    @classmethod
    def _encoded(cls, encoding: Encoding, info: ValidationInfo) -> Encoding:
        if info.data.get("of") == "counters" and encoding.records != "rows":
            raise ValueError("records: rows in a view of counters")
        return encoding

    @field_validator("window")
    @classmethod
    def _windowed(cls, window: int | None) -> int | None:
        if window is not None and window < 1_000_000_000:
            raise ValueError("at least 1s")
        return window

    @model_validator(mode="after")
    def _spread(self) -> View:
        if self.split and (self.window is None or self.time != "start"):
            raise misplaced("split", "true", "true only with a window and time: start")
        return self


class FileSink(Model):
    """Files on a local disk or object storage."""

    type: Literal["parquet", "jsonl", "csv"]
    path: str
    name: str | None = None
    latest: bool = False
    append: bool = False


class StateSnapshots(Model):
    """How often aggregators write what they have open, and where; see `flowray.state.snapshots`."""

    every: Annotated[Duration, Field(ge=1_000_000_000)] = 300 * 1_000_000_000
    keep: int = Field(default=12, ge=1, le=10_000)
    path: Location | None = None


class State(Model):
    """Where checkpoints and templates are kept."""

    path: Location = "data/state"
    ring: Path | None = None
    checkpoint: Annotated[Duration, Field(ge=1_000_000)] = 5 * 1_000_000_000
    outbox_limit: Annotated[Octets, Field(ge=1)] = 1 << 30
    snapshots: StateSnapshots | None = None
    start_from: str | None = None

    @property
    def shelf(self) -> str:
        """Where snapshots are."""
        if self.snapshots is not None and self.snapshots.path is not None:
            return self.snapshots.path
        place, question, query = self.path.partition("?")
        return f"{place.rstrip('/')}/snapshots{question}{query}"

    @property
    def local(self) -> Path:
        """A directory of this machine for what is about this machine: `path` if it is local."""
        if "://" not in self.path:
            return Path(self.path).expanduser()
        home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111 - raises nothing
        return Path(home) / "flowray" / hashlib.sha256(self.path.encode()).hexdigest()[:16]


class Settings(Model):
    """The whole configuration."""

    listen: Listen = Listen()
    decode: Decode = Decode()
    maps: Maps = Maps()
    routes: Routes = Routes()
    views: list[View] = Field(min_length=1)
    sinks: dict[Name, FileSink] = {}
    redis: Redis | None = None
    live: Live = Live()
    state: State = State()
    archive: Archive | None = None
    cluster: Cluster = Cluster()
    metrics: Metrics = Metrics()
    gateway: Gateway = Gateway()
    logs: Logs = Logs()

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, content: Any) -> Any:
        """A section of which every line is a comment is the default one."""
        if not isinstance(content, dict):
            return content
        return {name: value for name, value in content.items() if value is not None}

    @field_validator("archive", mode="before")
    @classmethod
    def _archive_at(cls, value: Any) -> Any:
        """A path alone says it all."""
        return {"path": value} if isinstance(value, str) else value

    @property
    def route_groups(self) -> list[RouteGroup]:
        """Those that are configured, in their parts, or the one of `listen`, or none where nothing
        listens.
        """
        bgp, bmp = self.listen.bgp, self.listen.bmp
        if self.routes.groups or (bgp is None and bmp is None):
            return [part for group in self.routes.groups for part in group.divided()]
        places = {
            "bgp": None if bgp is None else bgp.address,
            "bmp": None if bmp is None else bmp.address,
            "looking_glass": self.routes.looking_glass,
        }
        return [RouteGroup.model_validate({"name": "default", **places})]

    @model_validator(mode="after")
    def _grouped(self) -> Settings:
        names: set[str] = set()
        taken: set[str] = set()
        for i, group in enumerate(self.routes.groups):
            place = f"routes.groups[{i}]"
            divided = {part.name for part in group.divided()}
            if names & divided:
                raise misplaced(f"{place}.name", repr(group.name), "a name that no group has yet")
            names |= divided
            proxied = self.listen.bmp is not None and self.listen.bmp.proxy_protocol
            if group.parts > 1 and group.bmp is not None and proxied:
                allowed = "1 with listen.bmp.proxy_protocol: all routers have the proxy's address"
                raise misplaced(f"{place}.parts", str(group.parts), allowed)
            for protocol in ("bgp", "bmp"):
                address = getattr(group, protocol)
                if address is None:
                    continue
                where = f"{place}.{protocol}"
                if getattr(self.listen, protocol) is None:
                    raise misplaced(where, address, f"none, as there is no listen.{protocol}")
                if address in taken and not address.endswith(":0"):
                    raise misplaced(where, address, "an address that no other group listens on")
                taken.add(address)
            for address in filter(None, (part.looking_glass for part in group.divided())):
                if address in taken and not address.endswith(":0"):
                    where = f"{place}.looking_glass"
                    raise misplaced(where, address, "an address that no other group listens on")
                taken.add(address)
        return self

    @model_validator(mode="after")
    def _references(self) -> Settings:
        names = [v.name for v in self.views]
        for i, view in enumerate(self.views):
            if view.name in names[:i]:
                raise misplaced(f"views[{i}].name", repr(view.name), "a name that no view has yet")
            if view.name in self.routes.streams.configured:
                allowed = "a name that no stream of routes has"
                raise misplaced(f"views[{i}].name", repr(view.name), allowed)
            self._known(f"views[{i}]", view.sinks)
        for name, stream in self.routes.streams.configured.items():
            place = f"routes.streams.{name}"
            protocol = name[:3]
            if getattr(self.listen, protocol) is None:
                raise misplaced(place, "options", f"none, as there is no listen.{protocol}")
            self._known(place, stream.sinks)
        return self

    def _known(self, place: str, sinks: Sequence[str]) -> None:
        """All of these sinks are configured."""
        for j, sink in enumerate(sinks):
            if sink not in self.sinks:
                known = ", ".join(self.sinks) or "none: there are no sinks"
                raise misplaced(f"{place}.sinks[{j}]", repr(sink), known)
