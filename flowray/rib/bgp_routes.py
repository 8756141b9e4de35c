"""From a BGP session to tables: what the outputs of a session do to a RIB."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

import numpy as np

from flowray.archive.route_tape import RouteTape
from flowray.rib.archive import MessageArchive
from flowray.rib.bgp_session import (
    BgpSession,
    Ended,
    Opened,
    Output,
    RefreshMark,
    State,
    UpdatesReceived,
)
from flowray.rib.complaints import Complaints
from flowray.rib.journal import Journal
from flowray.rib.peers import Peer
from flowray.rib.rib import Rib
from flowray.wire.bgp.events import Action, Contexts, Parsed, Updates, Verdict
from flowray.wire.bgp.messages import Cease, ErrorCode
from flowray.wire.bgp.update import CAUSES, parse_updates

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PrefixLimit:
    """Routes that a peer may have; past `warn` percent of them the log says so."""

    most: int
    warn: int = 80


class BgpRoutes:
    """One session and its peer's tables."""

    def __init__(
        self,
        rib: Rib,
        session: BgpSession,
        journal: Journal,
        limit: PrefixLimit,
        causes: Counter[str],
        archive: MessageArchive | None = None,
        tape: RouteTape | None = None,
    ) -> None:
        """`causes` counts messages that RFC 7606 has a word on, of all sessions; `archive` and
        `tape` keep what is received.
        """
        self.session = session
        self._rib, self._journal, self._limit, self._causes = rib, journal, limit, causes
        self._complaints = Complaints()
        self._archives = [kept for kept in (archive, tape) if kept is not None]
        self._tape = tape
        self._contexts: Contexts | None = None
        self._number: int | None = None
        self._warned = False

    @property
    def alive(self) -> bool:
        """Whether the session is not over."""
        return self.session.state is not State.IDLE

    @property
    def router(self) -> tuple[str, int]:
        """Address and port of the session."""
        return self.session.peer, self.session.port

    def encoded(self, contexts: Contexts) -> None:
        """UPDATEs from now on are encoded so, whatever was negotiated."""
        self._contexts = contexts

    def take(self, output: Output, now_ns: int) -> list[Output]:
        """Act on an output of the session; what the session says to that."""
        if isinstance(output, Opened):
            self._opened(output, now_ns)
        elif isinstance(output, UpdatesReceived):
            return self._updated(output.updates, now_ns)
        elif isinstance(output, RefreshMark):
            self._refreshed(output, now_ns)
        elif isinstance(output, Ended):
            self._ended(output, now_ns)
        return []

    def _opened(self, output: Opened, now_ns: int) -> None:
        address, port = self.session.peer, self.session.port
        peer = Peer("bgp", address, port, address, str(output.open.bgp_id), output.open.peer_as)
        self._contexts = output.negotiated.contexts()
        self._number = self._rib.open(peer, now_ns)
        self._rib.adopt(self._number)
        for archive in self._archives:
            archive.opened(peer, now_ns)
        log.info(
            "bgp peer %s: session of AS %d, %s",
            *(address, peer.asn, peer.bgp_id),
            extra={"peer": address},
        )

    def _updated(self, updates: Updates, now_ns: int) -> list[Output]:
        """Apply UPDATEs, up to one for which the session must end."""
        if self._contexts is None or self._number is None:
            return []
        for archive in self._archives:
            archive.received(self._rib.peer(self._number).peer, updates, self._contexts)
        self._rib.compact()
        parsed = parse_updates(updates, self._contexts, self._rib.store)
        reset = self._judge(parsed, now_ns)
        events = parsed.events
        if reset is not None:
            events = events.take(np.flatnonzero(events.message < reset))
        peers = np.full(len(updates), self._number, np.int64)
        changes = self._rib.apply(
            peers, events, updates.buf, self._contexts.add_path[updates.context]
        )
        self._journal.changed(events, changes, updates)
        self._complete(events.family[events.action == Action.END_OF_RIB], now_ns)
        if reset is not None:
            return self._reset(parsed, reset, updates, now_ns)
        return self._within_limit(now_ns)

    def _judge(self, parsed: Parsed, now_ns: int) -> int | None:
        """Count malformed messages; the first one that ends the session."""
        if not parsed.verdict.any():
            return None
        causes, counts = np.unique(parsed.cause[parsed.cause != 0], return_counts=True)
        for cause, count in zip(causes.tolist(), counts.tolist(), strict=True):
            self._causes[CAUSES[cause]] += count
            if told := self._complaints.due(cause, count, now_ns):
                peer = self.session.peer
                log.warning(
                    "bgp peer %s: %d malformed UPDATE (%s)",
                    *(peer, told, CAUSES[cause]),
                    extra={"peer": peer, "cause": CAUSES[cause]},
                )
        ends = np.flatnonzero(parsed.verdict == Verdict.SESSION_RESET)
        return int(ends[0]) if ends.size else None

    def _reset(self, parsed: Parsed, message: int, updates: Updates, now_ns: int) -> list[Output]:
        start = int(parsed.data_offset[message])
        data = updates.buf[start : start + int(parsed.data_length[message])].tobytes()
        cause = CAUSES[int(parsed.cause[message])]
        subcode = int(parsed.subcode[message])
        return self.session.reset(ErrorCode.UPDATE_MESSAGE, subcode, data, now_ns, cause)

    def _within_limit(self, now_ns: int) -> list[Output]:
        assert self._number is not None
        routes, most = self._rib.peer(self._number).routes, self._limit.most
        if routes > most:
            reason = f"{routes} routes, {most} are allowed"
            return self.session.reset(ErrorCode.CEASE, Cease.MAXIMUM_PREFIXES, b"", now_ns, reason)
        if routes * 100 > most * self._limit.warn and not self._warned:
            self._warned = True
            log.warning("bgp peer %s: %d routes of %d allowed", self.session.peer, routes, most)
        return []

    def _complete(self, families: np.ndarray[tuple[int], np.dtype[np.uint8]], now_ns: int) -> None:
        """End-of-RIB: of restored routes, those not announced again are gone."""
        assert self._number is not None
        for family in families.tolist():
            self._journal.removed(self._rib.end_restart(self._number, family), now_ns)

    def _refreshed(self, output: RefreshMark, now_ns: int) -> None:
        if self._number is None:
            return
        begin = output.mark == "begin"
        if self._tape is not None:
            peer = self._rib.peer(self._number).peer
            self._tape.refreshed(peer, output.family, begin=begin, now_ns=now_ns)
        if begin:
            self._rib.begin_refresh(self._number, output.family)
        else:
            removed = self._rib.end_refresh(self._number, output.family)
            self._journal.removed(removed, now_ns)

    def _ended(self, output: Ended, now_ns: int) -> None:
        log.info(
            "bgp peer %s: session over, %s",
            *(self.session.peer, output.reason),
            extra={"peer": self.session.peer, "cause": str(output.reason)},
        )
        if self._number is not None:
            for archive in self._archives:
                archive.ended(self._rib.peer(self._number).peer, now_ns)
            self._journal.removed(self._rib.drop(self._number), now_ns)
            self._number = None
