"""Ray metrics of the actors: one row each, flushed as deltas once a second, never per datagram."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ray.util.metrics import Counter, Gauge

FLUSH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Metric:
    """`figure` is the key in the actor's status; Ray exports it as ray_`name`."""

    name: str
    kind: Literal["counter", "gauge"]
    figure: str
    doc: str


SHARD: tuple[Metric, ...] = (
    Metric("flowray_datagrams_total", "counter", "datagrams", "Datagrams received."),
    Metric("flowray_octets_total", "counter", "octets", "Octets of UDP payload received."),
    Metric("flowray_refused_total", "counter", "refused", "Datagrams of senders not allowed."),
    Metric("flowray_kernel_drops_total", "counter", "kernel_drops", "Datagrams the kernel lost."),
    Metric("flowray_resumed_total", "counter", "resumed", "Times it went on from a killed one."),
    Metric("flowray_recovered_total", "counter", "recovered", "Datagrams that killed ones left."),
    Metric("flowray_ring_failures_total", "counter", "ring_failures", "Partials not in the ring."),
    Metric("flowray_ring_used", "gauge", "ring_used", "Share of the ring in use, 0 to 1."),
    Metric("flowray_partials_total", "counter", "delivered", "Partials merged by aggregators."),
    Metric("flowray_resent_total", "counter", "resent", "Partials sent once more."),
    Metric("flowray_send_failures_total", "counter", "failures", "Partials that did not arrive."),
    Metric("flowray_errors_total", "counter", "errors", "Batches or exchanges that failed."),
    Metric("flowray_thread_seconds_total", "counter", "thread_seconds", "CPU, receive thread."),
    Metric("flowray_cpu_seconds_total", "counter", "cpu_seconds", "CPU of the process."),
    Metric("flowray_full_seconds_total", "counter", "full_seconds", "Memory full: not receiving."),
    Metric("flowray_buffer_full", "gauge", "buffer_full", "Fullest receive buffer, 0 to 1."),
    Metric("flowray_lag_seconds", "gauge", "lag_seconds", "Age of the oldest partial under way."),
    Metric("flowray_pending_rows", "gauge", "pending_rows", "Rows of open partials."),
    Metric("flowray_octets_held", "gauge", "octets_held", "Memory of partials not acknowledged."),
    Metric("flowray_exporters", "gauge", "exporters", "Exporters seen."),
    Metric("flowray_templates", "gauge", "templates", "Templates known."),
    Metric("flowray_snapshots_total", "counter", "snapshots", "Snapshots of routes installed."),
    Metric("flowray_snapshot_failures_total", "counter", "snapshot_failures", "Pulls in vain."),
)

AGGREGATOR: tuple[Metric, ...] = (
    Metric("flowray_merged_partials_total", "counter", "partials", "Partials merged."),
    Metric("flowray_rows_committed_total", "counter", "rows_committed", "Rows that sinks took."),
    Metric("flowray_sink_errors_total", "counter", "sink_errors", "Commits that a sink refused."),
    Metric("flowray_checkpoints_total", "counter", "checkpoints", "Checkpoints written."),
    Metric("flowray_aggregator_errors_total", "counter", "errors", "Ticks that failed."),
    Metric("flowray_aggregator_cpu_seconds_total", "counter", "cpu_seconds", "CPU of the process."),
    Metric("flowray_outstanding_commits", "gauge", "outstanding", "Commits that a sink lacks."),
    Metric("flowray_open_windows", "gauge", "open_windows", "Windows not closed yet."),
    Metric("flowray_open_records", "gauge", "open_records", "Records in them."),
    Metric("flowray_behind_seconds", "gauge", "behind_seconds", "Age of the least watermark."),
    Metric("flowray_checkpoint_octets", "gauge", "checkpoint_octets", "Size of the last one."),
)

RIB: tuple[Metric, ...] = (
    Metric("flowray_rib_octets_total", "counter", "octets", "Octets received in sessions."),
    Metric("flowray_rib_refused_total", "counter", "connections_refused", "Sessions not taken."),
    Metric("flowray_rib_malformed_total", "counter", "messages_malformed", "Messages at fault."),
    Metric("flowray_rib_snapshots_total", "counter", "snapshots", "Snapshots made."),
    Metric("flowray_rib_snapshot_cpu_seconds_total", "counter", "snapshot_cpu_seconds", "Cost."),
    Metric("flowray_rib_rows_total", "counter", "rows", "Rows of message logs and dumps."),
    Metric("flowray_rib_rows_lost_total", "counter", "rows_lost", "Rows that no sink took."),
    Metric("flowray_rib_errors_total", "counter", "errors", "Beats that failed."),
    Metric("flowray_rib_cpu_seconds_total", "counter", "cpu_seconds", "CPU of the process."),
    Metric("flowray_rib_bgp_sessions", "gauge", "bgp_sessions", "BGP sessions."),
    Metric("flowray_rib_bmp_sessions", "gauge", "bmp_sessions", "BMP sessions."),
    Metric("flowray_rib_peers", "gauge", "peers", "Peers with tables, restored ones too."),
    Metric("flowray_rib_stale_peers", "gauge", "stale_peers", "Of these, with stale routes."),
    Metric("flowray_rib_routes", "gauge", "routes", "Routes."),
    Metric("flowray_rib_table_octets", "gauge", "table_octets", "Memory of tables."),
    Metric("flowray_rib_attribute_octets", "gauge", "attribute_octets", "Memory of attributes."),
    Metric("flowray_rib_snapshot_octets", "gauge", "snapshot_octets", "Size of the newest one."),
    Metric("flowray_rib_snapshot_lag_seconds", "gauge", "snapshot_lag_seconds", "It is behind."),
)

STORE: tuple[Metric, ...] = (
    Metric("flowray_store_entries", "gauge", "entries", "Templates and facts in the store."),
    Metric("flowray_store_refused_total", "counter", "refused", "Entries beyond its bound."),
)


class Meter:
    """Flushes an actor's status to its metrics from a thread of its own."""

    def __init__(
        self,
        metrics: tuple[Metric, ...],
        tags: Mapping[str, str],
        status: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._status = status
        self._told: dict[str, float] = {}
        self._instruments: dict[str, tuple[Metric, Any]] = {}
        for metric in metrics:
            make = Counter if metric.kind == "counter" else Gauge
            instrument = make(metric.name, description=metric.doc, tag_keys=tuple(tags))
            instrument.set_default_tags(dict(tags))
            self._instruments[metric.figure] = metric, instrument
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(FLUSH_SECONDS)
            self.flush()

    def flush(self) -> None:
        """Bring all metrics up to date."""
        status = self._status()
        for figure, (metric, instrument) in self._instruments.items():
            value = float(status[figure] or 0)
            if metric.kind == "gauge":
                instrument.set(value)
            elif value > (told := self._told.get(figure, 0.0)):
                instrument.inc(value - told)
                self._told[figure] = value
