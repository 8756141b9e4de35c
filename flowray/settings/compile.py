"""A configuration to what runs: fields, operator maps, view plans, decoder settings, sinks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from flowray.addresses import prefix
from flowray.counters import COUNTERS
from flowray.errors import ConfigError
from flowray.field import Field, Merge
from flowray.fields import Registry
from flowray.ingest.decode import DecodeSettings
from flowray.ingest.join_plan import Follow, JoinPlan
from flowray.ingest.ladder import GLOBAL_TABLE
from flowray.ingest.route_texts import CommunityAs, Shape, patterns
from flowray.intervals import AddressSet
from flowray.maps import (
    ExporterMap,
    LabelMap,
    SamplingMap,
    load_agents,
    load_exporters,
    load_labels,
    load_sampling,
)
from flowray.networks import load_networks
from flowray.primitives import load_primitives
from flowray.route_fields import Protocol, route_fields
from flowray.settings.model import Settings
from flowray.settings.model import View as ViewSettings
from flowray.settings.routes import GLOBAL, RouteLog
from flowray.sinks.encoding import Encoding
from flowray.views.filter import Filter, FilterError, compile_filter
from flowray.views.view import ViewPlan
from flowray.views.window import Windows
from flowray.wire.flow.dissect import Tunnel, tunnel_word
from flowray.wire.packets import address_words

_RD_PARTNERS = {"mpls_vpn_rd": "mpls_vpn_rd_origin"}
"""Key -> the key that goes with it, as in pmacct's output."""


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled configuration."""

    settings: Settings
    registry: Registry
    views: tuple[ViewPlan, ...]
    labels: LabelMap | None
    sampling: SamplingMap | None
    proxies: AddressSet | None
    exporters: ExporterMap | None
    decode: DecodeSettings
    join: JoinPlan | None

    def encoding(self, view: str) -> Encoding:
        """How a view's rows are written."""
        settings = next(v for v in self.settings.views if v.name == view)
        return Encoding(**settings.encoding.model_dump())

    @property
    def streams(self) -> dict[str, RouteLog]:
        """Streams of routes that are asked for, by name."""
        return self.settings.routes.streams.configured

    def stream_encoding(self, stream: str) -> Encoding:
        """How a stream's rows are written."""
        return Encoding(**self.streams[stream].encoding.model_dump())

    def stream_fields(self, stream: str) -> list[Field]:
        """Fields of a stream's rows."""
        protocol: Protocol = "bgp" if stream.startswith("bgp") else "bmp"
        labels = protocol in self.settings.maps.labels_apply_to
        return route_fields(protocol, labels=labels, roa=self.settings.routes.rpki.used)

    def output_fields(self, view: str) -> list[Field]:
        """Fields of a view's rows: those of its plan, and the start of the window."""
        plan = next(v for v in self.views if v.name == view)
        stamp = [self.registry["stamp_inserted"]] if plan.windows is not None else []
        return [*stamp, *plan.fields]


def compile_settings(settings: Settings, file: str) -> Program:
    """Compile a configuration. Raises ConfigError."""
    maps = settings.maps
    registry = Registry(load_primitives(maps.fields)) if maps.fields else Registry()
    return Program(
        settings=settings,
        registry=registry,
        views=tuple(
            _view(view, f"views[{i}]", registry, file) for i, view in enumerate(settings.views)
        ),
        labels=load_labels(maps.labels) if maps.labels else None,
        sampling=load_sampling(maps.sampling) if maps.sampling else None,
        proxies=_addresses(settings.listen.proxies) if settings.listen.proxies else None,
        exporters=load_exporters(maps.exporters) if maps.exporters else None,
        decode=_decode(settings),
        join=_join(settings),
    )


def _addresses(prefixes: Sequence[str]) -> AddressSet:
    return AddressSet.of(interval for one in prefixes for interval in prefix(one))


def _join(settings: Settings) -> JoinPlan | None:
    """How flows join routes, if any are received."""
    if settings.listen.bgp is None and settings.listen.bmp is None:
        return None
    join = settings.routes.join
    follow, shown = join.follow_next_hops, join.communities
    within = _addresses(follow.prefixes)
    return JoinPlan(
        as_numbers=join.as_numbers,
        networks=join.networks,
        peer_source_as=join.peer_source_as,
        skip_confederations=join.skip_confederations,
        fall_backs=tuple(
            GLOBAL_TABLE if name == GLOBAL else address_words(name) for name in join.fall_back
        ),
        fall_back_names=tuple(join.fall_back),
        agents=load_agents(join.agents) if join.agents else None,
        networks_file=load_networks(join.networks_file) if join.networks_file else None,
        follow=Follow(within, follow.hops, follow.external) if follow.prefixes else None,
        shape=Shape(
            standard=patterns(*shown.standard),
            extended=patterns(*shown.extended),
            large=patterns(*shown.large),
            most_communities=shown.most,
            hops=join.as_path_radius,
        ),
        community_as=CommunityAs(
            patterns(*join.community_as.standard), patterns(*join.community_as.large)
        ),
    )


def _decode(settings: Settings) -> DecodeSettings:
    d = settings.decode
    tunnels = reduce(or_, (Tunnel[name.upper()] for name in d.tunnels), Tunnel(0))
    return DecodeSettings(
        whole_seconds=d.time_precision == "s",
        boot_from_options=d.boot_time_from_options,
        hold=d.hold,
        hold_octets_per_exporter=d.hold_per_exporter,
        hold_octets=d.hold_total,
        hold_age_ns=d.hold_for,
        templates_per_exporter=d.templates_per_exporter,
        template_idle_ns=d.template_idle,
        tunnels=tunnel_word(tunnels),
        trust_exporters=d.exporter_address == "told",
        sflow_frame_bytes=d.sflow_bytes == "frame",
    )


def _view(view: ViewSettings, place: str, registry: Registry, file: str) -> ViewPlan:
    if view.of == "counters":
        return _counter_view(view, place, file)
    asked = [_field(n, f"{place}.keys[{i}]", registry, file) for i, n in enumerate(view.keys)]
    for key, partner in _RD_PARTNERS.items():
        if any(f.name == key for f in asked):
            asked.append(registry[partner])
    asked = list({f.name: f for f in asked}.values())
    counters = [registry[name] for name in ("packets", "bytes", "flows") if name in view.counters]
    values = [f for f in asked if f.merge is not Merge.KEY]
    values += [f for f in counters if f not in values]
    windows = None
    if view.window is not None:
        windows = Windows(view.window, view.align, view.lateness)
    return ViewPlan(
        name=view.name,
        keys=tuple(f for f in asked if f.merge is Merge.KEY),
        values=tuple(values),
        windows=windows,
        by_start=view.time == "start",
        split=view.split,
        filter=_filter(view, place, registry, file),
        sample=view.sample,
        renormalise=view.renormalise,
        max_keys=view.max_keys,
        partitions=view.partitions,
    )


def _counter_view(view: ViewSettings, place: str, file: str) -> ViewPlan:
    """A row per counter block: the fields asked for, or all."""
    names = view.keys or [f.name for f in COUNTERS.public()]
    keys = [_field(n, f"{place}.keys[{i}]", COUNTERS, file) for i, n in enumerate(names)]
    return ViewPlan(
        name=view.name,
        keys=tuple(dict.fromkeys(keys)),
        values=(),
        of="counters",
        renormalise=False,
    )


def _field(name: str, place: str, registry: Registry, file: str) -> Field:
    field = registry.get(name) or registry.by_key(name)
    if field is None or field.name.startswith("_"):
        names = [f.name for f in registry.public()]
        near = difflib.get_close_matches(name, names, 1)
        hint = (
            f"a field of `flowray schema`; did you mean {near[0]}?"
            if near
            else "a field of `flowray schema`"
        )
        raise ConfigError(file, place, repr(name), hint)
    if not field.decoded:
        raise ConfigError(
            file, place, repr(name), "a field that this version fills (`flowray schema`)"
        )
    return field


def _filter(view: ViewSettings, place: str, registry: Registry, file: str) -> Filter | None:
    if view.filter is None:
        return None
    try:
        return compile_filter(view.filter, registry)
    except FilterError as error:
        raise error.within(file, f"{place}.filter") from None
