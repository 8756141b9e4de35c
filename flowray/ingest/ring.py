"""The receive ring of a shard: what it received and has not handed over, where a successor finds
it.

A directory in shared memory for each shard, with

    slots       datagrams since the last cut, filled by the kernel (`flowray.ingest.slots`)
    state       everything else a successor needs as of the last cut, replaced as a whole
    partials/   partials that are not acknowledged (`flowray.ingest.kept`)
    held-N      data that waits for a template or for options
    known-N     templates and facts (`flowray.ingest.journal`)
    lock        held by the process that owns it

At a cut the open partials of all views are numbered and stored, then `state` is replaced, and only
then slots are used again. So state, partials and datagrams fit together at any moment, and whatever
kills the process, a successor goes on from the last cut with the datagrams behind it.

Nothing here is for more than a process to be killed: shared memory does not survive its host.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from flowray.errors import FlowrayError
from flowray.filesystems import is_uri
from flowray.ingest.journal import Journal
from flowray.ingest.kept import KeptPartials
from flowray.ingest.slots import Slots, octets_of, size_of, slots_of
from flowray.settings.model import Settings
from flowray.views.checkpoint import CheckpointError, State, decode, encode

log = logging.getLogger(__name__)

LOCK_SECONDS = 15.0
"""How long a predecessor that was killed may take to let go."""

ATTEMPTS = 5
"""How often in a row a successor may die of what is in the ring, until it is set aside."""

LEAST_SLOTS = 1024
UNUSABLE = ".unusable"


class RingError(FlowrayError):
    """A ring that cannot be used."""


class Ring:
    """The ring of one shard, owned by this process. `predecessor` is the state of the last cut of
    whoever owned it before, None if it is new. Not thread-safe.
    """

    def __init__(self, directory: Path, octets: int) -> None:
        """Open it, or make it with room for so many octets of datagrams. Raises RingError."""
        self.directory = directory
        self.set_aside = ""
        self._octets = octets
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(directory / "lock")
            try:
                self._open()
            except BaseException:
                self._lock.close()
                raise
        except OSError as error:
            raise RingError(f"{directory}: {error.strerror or error}") from error

    def _open(self) -> None:
        self.predecessor: State | None = None
        self.found = 0
        self._generation, self._held = 0, ""
        self._place: dict[str, Any] | None = None
        try:
            self._adopt()
        except (RingError, CheckpointError, KeyError, ValueError, OSError) as error:
            self._move_aside(str(error))
        if self.predecessor is None:
            self._make()
        self.partials = KeptPartials(self.directory / "partials")
        self.journal = Journal(self.directory, self._place)

    def start_over(self, why: str) -> None:
        """Set aside what a predecessor left, as it cannot be used, and go on with an empty ring.
        Raises RingError, OSError.
        """
        self.journal.close()
        self._move_aside(why)
        self._make()
        self.partials = KeptPartials(self.directory / "partials")
        self.journal = Journal(self.directory, None)

    def _adopt(self) -> None:
        """Go on from what a predecessor left, if it is whole."""
        if not (self.directory / "state").exists():
            return
        description, tables = decode((self.directory / "state").read_bytes())
        with (self.directory / "slots").open("r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        n = slots_of(memory)
        if n is None:
            raise RingError("of another version")
        self.slots = Slots(n, memory, parity=description["generation"] % 2)
        self.found = self.slots.adopt()
        if self.slots.attempts > ATTEMPTS:
            raise RingError(f"{ATTEMPTS} shards died of what is in it")
        self._generation = description["generation"]
        self._place, self._held = description["journal"], description["held"]
        if self._held:
            content = (self.directory / self._held).read_bytes()
            tables |= decode(content)[1]
        self.predecessor = description["shard"], tables

    def _move_aside(self, why: str) -> None:
        aside = self.directory.with_name(self.directory.name + UNUSABLE)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        for path in self.directory.iterdir():
            if path.name != "lock":
                path.replace(aside / path.name)
        self.predecessor, self.found = None, 0
        self._generation, self._place, self._held = 0, None, ""
        self.set_aside = why
        log.error("%s: %s; what it held is kept in %s", self.directory, why, aside)

    def _make(self) -> None:
        (self.directory / "state").unlink(missing_ok=True)
        shutil.rmtree(self.directory / "partials", ignore_errors=True)
        n = max(LEAST_SLOTS, self._octets // (octets_of(LEAST_SLOTS) // LEAST_SLOTS))
        space = os.statvfs(self.directory)
        free = space.f_bavail * space.f_frsize
        if free < octets_of(n):
            raise RingError(
                f"{self.directory}: {free} octets are free, a ring needs {octets_of(n)}: choose"
                " another place (state.ring) or a smaller ring (listen.ring)"
            )
        path = self.directory / "slots"
        path.unlink(missing_ok=True)
        with path.open("x+b") as file:
            file.truncate(size_of(n))
            memory = mmap.mmap(file.fileno(), 0)
        self.slots = Slots(n, memory)

    # -- cuts --------------------------------------------------------------------------------------

    def commit(self, state: State, held: pa.Table | None = None) -> None:
        """Make a state the one that a successor goes on from, and free all slots. `held`: a table
        that replaces the one of the last commit. Raises OSError; then nothing is changed.
        """
        generation = self._generation + 1
        name = self._held
        if held is not None:
            name = f"held-{generation}" if held.num_rows else ""
            if name:
                (self.directory / name).write_bytes(encode(({}, {"held": held})))
        description, tables = state
        content = encode(
            (
                {
                    "generation": generation,
                    "journal": self.journal.place(),
                    "held": name,
                    "shard": description,
                },
                tables,
            )
        )
        aside = self.directory / "state.new"
        aside.write_bytes(content)
        aside.replace(self.directory / "state")
        if self._held and self._held != name:
            (self.directory / self._held).unlink(missing_ok=True)
        self._generation, self._held = generation, name
        self.journal.settle()
        self.slots.restart()

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of it: a successor goes on from here."""
        self.journal.close()
        self._lock.close()

    def remove(self) -> None:
        """Delete it: everything was handed over and acknowledged."""
        shutil.rmtree(self.directory, ignore_errors=True)
        with suppress(OSError):  # others have theirs there
            self.directory.parent.rmdir()
        self.close()


def _locked(path: Path) -> BinaryIO:
    """A lock file, locked. Raises RingError, OSError."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            if time.monotonic() > deadline:
                raise RingError(f"{path.parent}: another process owns it") from None
            time.sleep(0.01)
            continue
        # Whoever removed the directory meanwhile took this file along.
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
        file.close()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def ring_directory(settings: Settings) -> Path:
    """Where the shards of this configuration on this node have their rings: below it a directory
    for each `state.path`, so that several clusters on a host keep apart.
    """
    base = settings.state.ring or Path(f"/dev/shm/flowray-{os.getuid()}")  # noqa: S108
    state = settings.state.path
    whole = state if is_uri(state) else str(Path(state).expanduser().resolve())
    return base / hashlib.sha256(whole.encode()).hexdigest()[:12]


def open_ring(settings: Settings, shard: str) -> Ring | None:
    """The ring of a shard, None if the configuration wants none. Raises RingError."""
    if not settings.listen.ring:
        return None
    directory = ring_directory(settings)
    base = directory.parent
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Anybody may make a directory of our name in /dev/shm.
        if settings.state.ring is None and base.lstat().st_uid != os.getuid():
            raise RingError(f"{base}: it belongs to somebody else")
    except OSError as error:
        raise RingError(f"{base}: {error.strerror or error}") from error
    return Ring(directory / shard.replace("/", "-"), settings.listen.ring)
