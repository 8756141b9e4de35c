"""Traffic generator: encoders, realistic exporters, UDP sender, captures.

It shares no code with the decoders, so that tests can check one against the other. Sending is in
`flowray.generate.send`, captures in `flowray.generate.capture`.
"""

from flowray.generate.bench import MIX, SHAPES, bench_traffic
from flowray.generate.exporters import Exporter, ExporterSpec
from flowray.generate.population import Population
from flowray.generate.rows import Datagrams
from flowray.generate.traffic import KINDS, default_exporters, traffic
from flowray.generate.truth import Truth

__all__ = [
    "KINDS",
    "MIX",
    "SHAPES",
    "Datagrams",
    "Exporter",
    "ExporterSpec",
    "Population",
    "Truth",
    "bench_traffic",
    "default_exporters",
    "traffic",
]
