"""A variant of a case to a flowray configuration, or the capabilities that it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flowray.fields import REGISTRY
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from tests.conformance.case import Case, Flow, Step, Variant

VIEW = "flow"

FILE = "case.json"
"""What a configuration error names as its file."""

_MAPS = {"labels": "labels", "sampling": "sampling", "custom_fields": "fields"}
"""Map of a case -> option of the configuration."""

_MISSING_MAPS = {"vpn_rd": "flow_to_rd_map"}

_STREAMS = {
    "bmp": "BMP sessions",
    "bgp": "BGP sessions",
    "telemetry": "streaming telemetry",
}

_STEPS = {
    "reload_maps": "a reload of maps (started anew instead)",
    "hang_up": "sessions to hang up",
    "advance_to": "table dumps",
    "fault": "faults of sinks",
}

_DONE = frozenset({"replay", "expect", "expect_no_problems", "expect_events", "swap_maps"})

_ENCODE: dict[str, dict[str, tuple[str, str] | None]] = {
    "records": {"null-filled": ("records", "null-filled"), "plain-json": ("records", "plain")},
    "labels": {"text": ("labels", "text"), "map": ("labels", "map")},
    # Attributes of routes: nothing of a flow record without a join is written by these.
    "as_path": {"text": None, "list": None},
    "communities": {"text": None, "list": None},
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
"""Switch of a case -> its values -> option of a view's encoding and its value."""


def missing(case: Case, variant: Variant) -> list[str]:
    """Capabilities that this version lacks and without which nothing can be compared."""
    found = [_STREAMS.get(name, name) for name in variant.collector.streams if name != "flow"]
    flow = variant.collector.flow
    if flow is None:
        return found or ["no flow stream"]
    if flow.routes_from != "none":
        found.append(f"flows joined with {flow.routes_from} routes")
    found += [f"field {key}" for key in flow.fields if not _filled(key)]
    for name, value in variant.collector.encode.items():
        if value not in _ENCODE.get(name, {}):
            found.append(f"encode {name}: {value}")
    if not flow.bucket_by.startswith("arrival time") or 60 % flow.bucket_seconds:
        found.append(f"buckets of {flow.bucket_seconds} s by {flow.bucket_by}")
    found += [_STEPS.get(step.do, step.do) for step in case.steps if _unknown(step)]
    return list(dict.fromkeys(found))


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
        return step.stream != "flow"
    return step.do not in _DONE and step.do != "reload_maps"


def compile_variant(case: Case, variant: Variant, maps: dict[str, str], directory: Path) -> Program:
    """The compiled configuration of a variant.

    `maps` are its map files by name, copied to `directory` with addresses replaced. Raises
    ConfigError, CaseError.
    """
    flow = variant.collector.flow
    assert flow is not None, "ask missing() first"
    return compile_settings(
        parse_settings(
            {
                "decode": {
                    "time_precision": "s",
                    "boot_time_from_options": False,
                    "hold": not any(f.sets_without_template for x in case.feeds for f in x.facts),
                },
                "maps": dict(_maps(case, maps, directory)),
                "views": [_view(variant, flow)],
            },
            FILE,
        ),
        FILE,
    )


def _maps(case: Case, maps: dict[str, str], directory: Path) -> Iterator[tuple[str, str]]:
    for name, option in _MAPS.items():
        if name in maps:
            text = case.path(maps[name]).read_text(encoding="utf-8")
            copy = directory / f"{name}.map"
            copy.write_text(case.addresses.replace(text), encoding="utf-8")
            yield option, str(copy)


def map_files(variant: Variant) -> dict[str, str]:
    """Map files of the flow stream by name."""
    maps: dict[str, Any] = dict(variant.collector.maps)
    apply = maps.pop("labels_apply_to", ["flow"])
    return {name: file for name, file in maps.items() if name != "labels" or "flow" in apply}


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
        "encoding": dict(_encoding(variant)),
    }


def _encoding(variant: Variant) -> Iterable[tuple[str, str]]:
    for name, value in variant.collector.encode.items():
        option = _ENCODE[name][value]
        if option is not None:
            yield option
    if writer := variant.collector.writer_id.get("flow"):
        yield "writer_id", writer
