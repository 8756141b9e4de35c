"""A variant of a case to a flowray configuration, or the capabilities that it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowray.fields import REGISTRY
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from tests.conformance.case import Case, CaseError, Flow, Listen, Step, Variant

VIEW = "flow"

FILE = "case.json"
"""What a configuration error names as its file."""

_MAPS = {"labels": "labels", "sampling": "sampling", "custom_fields": "fields"}
"""Map of a case -> option of the configuration."""

_MISSING_MAPS = {"vpn_rd": "flow_to_rd_map"}

STREAMS = {"bgp": "bgp_log", "bmp": "bmp_log", "bgp_dump": "bgp_dump", "bmp_dump": "bmp_dump"}
"""Stream of routes of a case -> stream of the configuration."""

_STREAMS = {"telemetry": "streaming telemetry"}

_STEPS = {
    "reload_maps": "a reload of maps (started anew instead)",
    "ha_script": "high availability",
    "fault": "faults of sinks",
}

_DONE = frozenset(
    {
        *("replay", "hang_up", "advance_to", "swap_maps"),
        *("expect", "expect_no_problems", "expect_events"),
        *("expect_sessions_closed", "expect_memory_below"),
    }
)

_APPLY = {"flow": "flows", "bgp": "bgp", "bmp": "bmp"}
"""What labels apply to, there and in the configuration."""

_ENCODE: dict[str, dict[str, tuple[str, str]]] = {
    "records": {"null-filled": ("records", "null-filled"), "plain-json": ("records", "plain")},
    "labels": {"text": ("labels", "text"), "map": ("labels", "map")},
    "as_path": {"text": ("as_path", "text"), "list": ("as_path", "list")},
    "communities": {"text": ("communities", "text"), "list": ("communities", "list")},
    "tcp_flags": {"list": ("tcp_flags", "list"), "int": ("tcp_flags", "int")},
    "forwarding_status": {
        "text": ("forwarding_status", "text"),
        "number": ("forwarding_status", "number"),
    },
    "mpls_label_stack": {
        "list": ("mpls_label_stack", "list"),
        "text": ("mpls_label_stack", "text"),
    },
    "timestamps": {"seconds since 1970, text": ("timestamps", "epoch")},
}
"""Switch of a case -> its values -> option of an encoding and its value."""

_OF_FLOWS = frozenset({"tcp_flags", "forwarding_status", "mpls_label_stack"})
_OF_ROUTES = frozenset({"as_path", "communities"})
"""Switches that rows of routes do not have, and rows of flows have with a join alone."""

_NO_FLOWS = {"name": VIEW, "keys": ["peer_ip_src"]}
"""The view of a case without flows: a configuration has one."""


def missing(case: Case, variant: Variant) -> list[str]:
    """Capabilities that this version lacks and without which nothing can be compared."""
    streams = [n for n in variant.collector.streams if n != "flow"]
    found = [_STREAMS.get(n, n) for n in streams if n not in STREAMS]
    listeners = {n.removesuffix("_dump") for n in streams if n in STREAMS}
    found += [f"a listener of {n}" for n in sorted(listeners - variant.collector.listen.keys())]
    flow = variant.collector.flow
    if flow is None and not streams:
        return ["no flow stream"]
    found += _flow_lacks(flow) if flow is not None else []
    for name, value in variant.collector.encode.items():
        if value not in _ENCODE.get(name, {}):
            found.append(f"encode {name}: {value}")
    found += [_STEPS.get(step.do, step.do) for step in case.steps if _unknown(step)]
    return list(dict.fromkeys(found))


def _flow_lacks(flow: Flow) -> Iterator[str]:
    if flow.routes_from not in ("none", "bgp", "bmp"):
        yield f"flows joined with {flow.routes_from} routes"
    yield from (f"field {key}" for key in flow.fields if not _filled(key))
    if not flow.bucket_by.startswith("arrival time") or 60 % flow.bucket_seconds:
        yield f"buckets of {flow.bucket_seconds} s by {flow.bucket_by}"


def lacking(case: Case, variant: Variant) -> list[str]:
    """Capabilities without which part of the records differ; the rest can be compared."""
    maps = [n for n in variant.collector.maps if n not in _MAPS and n != "labels_apply_to"]
    found = [_MISSING_MAPS.get(name, f"{name} map") for name in maps]
    return found + [_STEPS[s.do] for s in case.steps if s.do == "reload_maps"]


def _filled(key: str) -> bool:
    field = REGISTRY.by_key(key)
    return field is None or field.decoded


def _unknown(step: Step) -> bool:
    if step.do == "expect":
        return step.stream != "flow" and step.stream not in STREAMS
    return step.do not in _DONE and step.do != "reload_maps"


def compile_variant(case: Case, variant: Variant, maps: dict[str, str], directory: Path) -> Program:
    """The compiled configuration of a variant.

    `maps` are its map files by name, copied to `directory` with addresses replaced. Raises
    ConfigError, CaseError.
    """
    flow = variant.collector.flow
    listen = variant.collector.listen
    settings: dict[str, Any] = {
        "listen": {name: _listen(name, listen[name]) for name in ("bgp", "bmp") if name in listen},
        "decode": {
            "time_precision": "s",
            "boot_time_from_options": False,
            "hold": not any(f.sets_without_template for x in case.feeds for f in x.facts),
        },
        "maps": dict(_maps(case, maps, directory)),
        "views": [_view(variant, flow) if flow is not None else _NO_FLOWS],
    }
    if apply := variant.collector.maps.get("labels_apply_to"):
        settings["maps"]["labels_apply_to"] = [_APPLY[name] for name in apply]
    if streams := dict(_route_streams(variant)):
        by = "flows" if flow is None or flow.routes_from == "none" else "routes"
        settings["routes"] = {
            "streams": streams,
            "next_hops": "shared" if _keeps_tables(variant) else "received",
            "join": {"as_numbers": by, "networks": by},
        }
    return compile_settings(parse_settings(settings, FILE), FILE)


def _listen(name: str, listen: Listen) -> dict[str, Any]:
    found: dict[str, Any] = {
        "address": f"[{listen.address}]:{listen.upstream_port}"
        if ":" in listen.address
        else f"{listen.address}:{listen.upstream_port}",
        "max_peers": listen.max_peers,
    }
    if name == "bgp":
        found |= {"local_as": listen.local_as, "router_id": listen.router_id}
    return found


def _route_streams(variant: Variant) -> Iterator[tuple[str, dict[str, Any]]]:
    writer = variant.collector.writer_id.get("routing_or_telemetry", "")
    encoding = dict(_encoding(variant, _OF_FLOWS)) | {"writer_id": writer}
    for name, asked in variant.collector.streams.items():
        if name not in STREAMS:
            continue
        stream: dict[str, Any] = {"encoding": encoding}
        if isinstance(asked, dict):
            stream |= {"every": f"{asked['every_seconds']}s", "slots": asked.get("slots", 1)}
        yield STREAMS[name], stream


_STANDALONE = ("pmbgpd", "pmbmpd")


def _keeps_tables(variant: Variant) -> bool:
    """Whether the reference comes of a collector that keeps tables, and with them equal attributes
    once: not of a daemon for routes alone, unless it dumps them.
    """
    writer = variant.collector.writer_id.get("routing_or_telemetry", "")
    dumps = any(name.endswith("_dump") for name in variant.collector.streams)
    return dumps or not writer.startswith(_STANDALONE)


def dump_clock(variant: Variant, until: str, now_ns: int) -> Iterator[int]:
    """Times (ns) at which dumps are due after `now_ns`: the next one, or those of one round, in
    which every router has its turn. Raises CaseError.
    """
    dumps = [v for n, v in variant.collector.streams.items() if n in STREAMS and n.endswith("dump")]
    if not dumps or until not in ("next_dump", "next_dump_complete"):
        raise CaseError(f"advance_to {until}: no such clock")
    slots = int(dumps[0].get("slots", 1))
    step_ns = int(dumps[0]["every_seconds"]) * 1_000_000_000 // slots
    first = (now_ns // step_ns + 1) * step_ns
    for turn in range(slots if until == "next_dump_complete" else 1):
        yield first + turn * step_ns


def _maps(case: Case, maps: dict[str, str], directory: Path) -> Iterator[tuple[str, str]]:
    for name, option in _MAPS.items():
        if name in maps:
            text = case.path(maps[name]).read_text(encoding="utf-8")
            copy = directory / f"{name}.map"
            copy.write_text(case.addresses.replace(text), encoding="utf-8")
            yield option, str(copy)


def map_files(variant: Variant) -> dict[str, str]:
    """Map files by name."""
    maps: dict[str, Any] = dict(variant.collector.maps)
    apply = maps.pop("labels_apply_to", ["flow"])
    return {name: file for name, file in maps.items() if name != "labels" or apply}


def _view(variant: Variant, flow: Flow) -> dict[str, Any]:
    keys = [
        k for k in (*flow.fields, *flow.custom_fields) if k not in ("packets", "bytes", "flows")
    ]
    if flow.min_max_timestamps_emitted:
        keys += ["timestamp_min", "timestamp_max"]
    return {
        "name": VIEW,
        "keys": keys,
        # `flows` is a field among the others there: a counter only if it is asked for.
        "counters": ["packets", "bytes", *(["flows"] if "flows" in flow.fields else [])],
        "window": f"{flow.bucket_seconds}s",
        "renormalise": flow.multiply_by_sampling,
        "encoding": dict(_encoding(variant, _without_join(flow)))
        | {"writer_id": variant.collector.writer_id.get("flow", "")},
    }


def _without_join(flow: Flow) -> frozenset[str]:
    return _OF_ROUTES if flow.routes_from == "none" else frozenset()


def _encoding(variant: Variant, without: frozenset[str]) -> Iterator[tuple[str, str]]:
    for name, value in variant.collector.encode.items():
        if name not in without:
            yield _ENCODE[name][value]
