"""Metrics as JSON and as docs/metrics.md."""

from __future__ import annotations

from typing import Any

from actors.metrics import TABLES, Metric

PREFIX = "ray_"
"""Ray's exporter puts it before each name."""


def rows() -> list[dict[str, Any]]:
    """One dictionary per metric."""
    return [
        {
            "of": of,
            "name": PREFIX + metric.name,
            "kind": metric.kind,
            "tags": list(_tags(tags, metric)),
            "description": metric.doc,
        }
        for of, tags, metrics in TABLES
        for metric in metrics
    ]


def _tags(tags: tuple[str, ...], metric: Metric) -> tuple[str, ...]:
    return (*tags, *(metric.label.split(", ") if metric.label else ()))


def markdown() -> str:
    """docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Each node's Ray agent exports them in Prometheus' format; `ray_` stands before each name.",
        "Ray adds tags of its own (`NodeAddress`, `SessionName`, `WorkerId`, ...). A restarted",
        "actor begins a new series, so sum rates: `sum by (shard) (rate(ray_flowray_datagrams_total"
        "[1m]))`.",
        "`config/grafana` has a scrape configuration and dashboards; alarms are in",
        "[operations](operations.md). An exporter has series of its own in the ledger's metrics up",
        'to `metrics.exporters` of them in each shard; the rest share `exporter="others"`.',
        "This page is made by `flowray schema --metrics --markdown`; a test keeps it true.",
    ]
    for of, tags, metrics in TABLES:
        lines += ["", f"## {of}", "", "| metric | kind | tags | what |", "|---|---|---|---|"]
        lines += [
            f"| `{PREFIX}{m.name}` | {m.kind} | {', '.join(_tags(tags, m))} | {m.doc} |"
            for m in metrics
        ]
    return "\n".join([*lines, ""])
