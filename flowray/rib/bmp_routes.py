"""From a BMP session to tables: what a router tells of its peers does to a RIB."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

import numpy as np

from flowray.archive.route_tape import RouteTape
from flowray.rib.bmp_events import (
    Discarded,
    Ended,
    Initiation,
    Mirroring,
    Output,
    PeerDown,
    PeerUp,
    RouteMonitoring,
    Statistics,
    Termination,
)
from flowray.rib.bmp_peers import BmpPeer
from flowray.rib.bmp_session import BmpSession
from flowray.rib.complaints import Complaints
from flowray.rib.journal import Journal
from flowray.rib.peers import Peer, policy_view
from flowray.rib.rib import Rib
from flowray.wire.bgp.events import Action
from flowray.wire.bgp.update import CAUSES, parse_updates

log = logging.getLogger(__name__)


class BmpRoutes:
    """One router's session, and the tables of its peers."""

    def __init__(
        self,
        rib: Rib,
        session: BmpSession,
        journal: Journal,
        causes: Counter[str],
        tape: RouteTape | None = None,
    ) -> None:
        """`causes` counts messages that were not taken or that RFC 7606 has a word on, of all
        sessions; `tape` keeps what is received.
        """
        self.session = session
        self._rib, self._journal, self._causes = rib, journal, causes
        self._complaints = Complaints()
        self._numbers = np.empty(0, np.int64)
        self._tape = tape
        self._taped = 0
        if tape is not None:
            self._taped = tape.bmp_opened(session.address, session.port, session.connected_ns)
            session.heard = self._heard

    def _heard(self, messages: memoryview, now_ns: int) -> None:
        assert self._tape is not None
        self._tape.bmp_received(self._taped, messages, now_ns)

    @property
    def alive(self) -> bool:
        """Whether the session is not over."""
        return not self.session.ended

    @property
    def router(self) -> tuple[str, int]:
        """Address and port of the session."""
        return self.session.address, self.session.port

    def take(self, output: Output, now_ns: int) -> None:
        """Act on an output of the session."""
        if isinstance(output, RouteMonitoring):
            self._monitored(output, now_ns)
        elif isinstance(output, PeerDown):
            self._journal.bmp_event(self.session, output, now_ns)
            self._removed([self.session.peers[i] for i in output.views], now_ns)
        elif isinstance(output, Ended):
            log.info(
                "bmp router %s: session over, %s",
                *(self.session.address, output.cause),
                extra={"peer": self.session.address, "cause": str(output.cause)},
            )
            if self._tape is not None:
                self._tape.bmp_ended(self._taped, now_ns)
            self._removed(self.session.peers, now_ns)
            self._journal.closed(self.session)
        elif isinstance(output, Discarded):
            self._discarded(output, now_ns)
        elif isinstance(output, Initiation | PeerUp | Statistics | Termination | Mirroring):
            self._journal.bmp_event(self.session, output, now_ns)

    def _discarded(self, output: Discarded, now_ns: int) -> None:
        self._causes[output.cause] += output.messages
        of = output.message_type, output.cause
        if told := self._complaints.due(of, output.messages, now_ns):
            log.warning(
                "bmp router %s: %d messages of type %d discarded (%s)",
                self.session.address, told, *of,
            )  # fmt: skip

    def _monitored(self, output: RouteMonitoring, now_ns: int) -> None:
        self._rib.compact()
        contexts, updates = self.session.contexts, output.updates
        parsed = parse_updates(updates, contexts, self._rib.store, monitored=True)
        causes, counts = np.unique(parsed.cause[parsed.cause != 0], return_counts=True)
        for cause, count in zip(causes.tolist(), counts.tolist(), strict=True):
            self._causes[CAUSES[cause]] += count
            if told := self._complaints.due(CAUSES[cause], count, now_ns):
                router = self.session.address
                log.warning(
                    "bmp router %s: %d malformed UPDATE (%s)",
                    *(router, told, CAUSES[cause]),
                    extra={"peer": router, "cause": CAUSES[cause]},
                )
        peers = self._number_of(output.peers, now_ns)
        events = parsed.events
        add_path = contexts.add_path[updates.context]
        changes = self._rib.apply(peers, events, updates.buf, add_path)
        self._journal.changed(events, changes, updates, output.marks)
        for row in np.flatnonzero(events.action == Action.END_OF_RIB).tolist():
            number = int(peers[events.message[row]])
            self._journal.removed(self._rib.end_restart(number, int(events.family[row])), now_ns)

    def _number_of(
        self, peers: np.ndarray[tuple[int], np.dtype[np.int64]], now_ns: int
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Numbers in the RIB of peers of the session; those that had no routes yet are opened."""
        known = len(self.session.peers)
        if self._numbers.size < known:
            more = np.full(known - self._numbers.size, -1, np.int64)
            self._numbers = np.concatenate((self._numbers, more))
        numbers = self._numbers[peers]
        if (numbers < 0).any():
            for index in np.unique(peers[numbers < 0]).tolist():
                number = self._rib.open(self._peer(self.session.peers[index]), now_ns)
                self._rib.adopt(number)
                self._numbers[index] = number
            numbers = self._numbers[peers]
        return numbers

    def _peer(self, peer: BmpPeer) -> Peer:
        return Peer(
            "bmp",
            self.session.address,
            self.session.port,
            peer.address,
            peer.router_id,
            peer.asn,
            policy_view(peer.is_post, peer.is_out, peer.is_loc),
            peer.peer_type,
            peer.distinguisher,
            peer.is_filtered,
        )

    def _removed(self, peers: Iterable[BmpPeer], now_ns: int) -> None:
        for peer in peers:
            if peer.index < self._numbers.size and self._numbers[peer.index] >= 0:
                number = int(self._numbers[peer.index])
                self._numbers[peer.index] = -1
                self._journal.removed(self._rib.drop(number), now_ns)
