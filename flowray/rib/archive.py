"""An archive of what BGP sessions told: MRT files (RFC 6396), a new one each period."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from flowray.rib.peers import Peer
from flowray.wire.bgp.events import Contexts, Updates
from flowray.wire.bgp.mrt import MrtPeer, MrtStateChange
from flowray.wire.bgp.mrt_writer import MrtWriter
from flowray.wire.packets import address_words

__all__ = ["MessageArchive"]

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000
_IDLE, _OPEN_CONFIRM, _ESTABLISHED = 1, 5, 6
"""States of a session (RFC 6396 section 4.4.1)."""


class MessageArchive:
    """Writes `<folder>/<group>.<UTC time of its first message>.mrt`. Files that an end without
    notice left under a name of their own get it at the next start; they may be cut off.

    What cannot be written is lost, counted, until the next period begins. Not thread-safe.
    """

    def __init__(self, folder: Path, group: str, period_ns: int, local_as: int) -> None:
        """Raises OSError for a folder that cannot be made."""
        self.messages = 0
        self.lost = 0
        self.files = 0
        self._folder, self._group, self._period = folder, group, period_ns
        self._local_as = local_as
        self._writer: MrtWriter | None = None
        self._ends_ns = 0
        self._failed = False
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".{group}.*.mrt.part"):
            left.replace(folder / left.name[1:].removesuffix(".part"))

    def opened(self, peer: Peer, now_ns: int) -> None:
        """A session is up."""
        self._change(peer, _OPEN_CONFIRM, _ESTABLISHED, now_ns)

    def ended(self, peer: Peer, now_ns: int) -> None:
        """A session is over."""
        self._change(peer, _ESTABLISHED, _IDLE, now_ns)

    def received(self, peer: Peer, updates: Updates, contexts: Contexts) -> None:
        """A session told something."""
        if (writer := self._open(int(updates.time_ns[0]))) is None:
            self.lost += len(updates)
            return
        try:
            numbers = np.zeros(len(updates), np.int64)
            writer.write_messages(updates, contexts, [self._peer(peer)], numbers)
            self.messages += len(updates)
        except OSError as error:
            self.lost += len(updates)
            self._fail(error)

    def advance(self, now_ns: int) -> None:
        """Let time pass: the file of a period that is over is complete."""
        if now_ns >= self._ends_ns:
            self.close()
            self._failed = False

    def close(self) -> None:
        """Complete the file of this period."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
            self.files += 1
        except OSError as error:
            self._fail(error)

    def _change(self, peer: Peer, old: int, new: int, now_ns: int) -> None:
        if (writer := self._open(now_ns)) is None:
            return
        try:
            writer.write_state_change(MrtStateChange(now_ns, 0, old, new), self._peer(peer))
        except OSError as error:
            self._fail(error)

    def _open(self, now_ns: int) -> MrtWriter | None:
        """The file of this time; None if it cannot be written."""
        self.advance(now_ns)
        if self._writer is None and not self._failed:
            self._ends_ns = (now_ns // self._period + 1) * self._period
            at = datetime.fromtimestamp(now_ns / _SECOND, UTC)
            name = f"{self._group}.{at:%Y%m%dT%H%M%S.%fZ}.mrt"
            try:
                self._writer = MrtWriter(self._folder / name)
            except OSError as error:
                self._fail(error)
        return self._writer

    def _fail(self, error: OSError) -> None:
        writer, self._writer, self._failed = self._writer, None, True
        if writer is not None:
            with suppress(OSError):
                writer.close()
        log.error("archive of %s: %s; until the next file", self._group, error.strerror)

    def _peer(self, peer: Peer) -> MrtPeer:
        return MrtPeer(*address_words(peer.address), peer.asn, local_as=self._local_as)
