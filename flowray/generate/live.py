"""Generated exporters that send in real time, until a signal: the other end of `flowray demo`.

With `--bgp-to`, each of them also announces by BGP a table that has the networks of its flows.

The last line of output is a JSON object of what was sent: datagrams, and the records in them with
their packets and octets multiplied by the sampling rates that the exporters announce.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
import time
from dataclasses import asdict, dataclass

from flowray.generate.exporters import NS_PER_S, ExporterSpec
from flowray.generate.population import Population
from flowray.generate.routes import peer_as, routing_table, seen_by, updates
from flowray.generate.send import Sender
from flowray.generate.speaker import END_OF_RIB, Speaker
from flowray.generate.traffic import default_exporters, traffic
from flowray.generate.truth import Truth

FIRST_ADDRESS = "127.0.1.1"
"""On Linux all of 127.0.0.0/8 is there to send from."""


@dataclass(slots=True)
class Sent:
    """Totals."""

    datagrams: int = 0
    records: int = 0
    packets: int = 0
    bytes: int = 0

    def add(self, truth: Truth) -> None:
        """Count the records of a batch."""
        self.records += len(truth)
        self.packets += int((truth.packets * truth.sampling).sum())
        self.bytes += int((truth.octets * truth.sampling).sum())


class LiveTraffic:
    """Exporters on loopback addresses, sFlow to a port of its own."""

    def __init__(
        self, flows: tuple[str, int], sflow: tuple[str, int], exporters: int, rate: float, seed: int
    ) -> None:
        self._specs = default_exporters(exporters, FIRST_ADDRESS)
        sources = [spec.address for spec in self._specs]
        self._flows = Sender(*flows, sources)
        self._sflow = Sender(*sflow, sources)
        self._rate = rate
        self._seed = seed
        self.sent = Sent()

    def run(self, stop: threading.Event) -> None:
        """Send tick by tick as the time comes, until `stop` is set."""
        truth: list[Truth] = []
        start_ns = time.time_ns() // NS_PER_S * NS_PER_S
        batches = traffic(self._seed, self._specs, rate=self._rate, start_ns=start_ns, truth=truth)
        for time_ns, index, payloads in batches:
            if stop.wait(max(0.0, (time_ns - time.time_ns()) / NS_PER_S)):
                break
            sender = self._sender(self._specs[index])
            self.sent.datagrams += sender.send(payloads, exporter=index).sent
            for known in truth:
                self.sent.add(known)
            truth.clear()

    def _sender(self, spec: ExporterSpec) -> Sender:
        return self._sflow if spec.kind.startswith("sflow") else self._flows


class LiveRoutes:
    """A BGP session from the address of each exporter, up until `close`."""

    def __init__(self, to: tuple[str, int], exporters: int, routes: int, seed: int) -> None:
        """Raises OSError, ConnectionError if the collector takes no session."""
        table = routing_table(seed, routes, routes // 5, Population(seed).prefixes)
        self._speakers: list[Speaker] = []
        for number, spec in enumerate(default_exporters(exporters, FIRST_ADDRESS)):
            speaker = Speaker(to, spec.address, asn=peer_as(number), bgp_id=spec.address)
            self._speakers.append(speaker)
            speaker.send(updates(seen_by(table, number)).buf)
            speaker.send(END_OF_RIB)

    def close(self) -> None:
        """End the sessions."""
        for speaker in self._speakers:
            speaker.close()


def _target(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser("flowray.generate.live", description=main.__doc__)
    parser.add_argument("--to", required=True, type=_target, help="address:port for NetFlow, IPFIX")
    parser.add_argument("--sflow-to", required=True, type=_target, help="address:port for sFlow")
    parser.add_argument("--exporters", type=int, default=7)
    parser.add_argument("--rate", type=float, default=5000.0, help="records a second")
    parser.add_argument("--bgp-to", type=_target, help="address:port for BGP")
    parser.add_argument("--routes", type=int, default=10_000, help="of IPv4, of each exporter")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    live = LiveTraffic(options.to, options.sflow_to, options.exporters, options.rate, options.seed)
    routes = None
    if options.bgp_to is not None:
        routes = LiveRoutes(options.bgp_to, options.exporters, options.routes, options.seed)
    live.run(stop)
    if routes is not None:
        routes.close()
    print(json.dumps(asdict(live.sent)), flush=True)


if __name__ == "__main__":
    main()
