"""The ring against a naive model: whatever moment the process dies in, a successor finds the last
commit and the datagrams behind it, each once.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowray.ingest.ledger import Ledger
from flowray.ingest.receive import Receiver
from flowray.ingest.ring import ATTEMPTS, LEAST_SLOTS, Ring, RingError, open_ring, ring_directory
from flowray.ingest.slots import FULL, HEAD, Slots, octets_of, size_of
from flowray.settings.load import parse_settings
from flowray.views.view import Partial
from flowray.wire.packets import Exporters

ARRIVAL = 1_700_000_000_000_000_000
SIZES = st.sampled_from([0, 1, 700, HEAD - 1, HEAD, HEAD + 1, 9000])


class Killed(BaseException):
    """The process ends here."""


class Machine:
    """A ring with a socket before it, killed and opened again at will. `behind` are the datagrams
    since the last commit, `noted` what that told.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ring = Ring(folder / "s0", 1 << 21)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.inbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.inbox.bind(("127.0.0.1", 0))
        self.behind: list[bytes] = []
        self.noted: dict[str, Any] = {}
        self.number = 0
        self.commit()

    def close(self) -> None:
        self.sender.close()
        self.inbox.close()
        self.ring.close()

    def receive(self, sizes: list[int]) -> None:
        payloads = [os.urandom(size) for size in sizes]
        for payload in payloads:
            self.sender.sendto(payload, self.inbox.getsockname())
        got = 0
        while got < len(payloads):
            got += self.ring.slots.receive(self.inbox.fileno(), 64)
        self.behind += payloads

    def commit(self, held: pa.Table | None = None) -> None:
        self.number += 1
        told = {"n": self.number}
        self.ring.commit((told, {}), held)
        self.noted, self.behind = told, []

    def killed_in_commit(self, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The process dies before or after the state is replaced, or while slots are freed."""

        def dies(*_: Any, **__: Any) -> None:
            raise Killed

        place: dict[str, tuple[Any, str]] = {
            "before": (Path, "replace"),
            "after": (Slots, "restart"),
            "while freeing": (Slots, "_clear"),
            "freed": (Slots, "_give_back"),
        }
        before = self.noted, self.behind
        with monkeypatch.context() as patch:
            patch.setattr(*place[where], dies)
            with pytest.raises(Killed):
                self.commit()
        if where == "before":
            self.noted, self.behind = before
        else:
            self.noted, self.behind = {"n": self.number}, []
        self.kill()

    def kill(self) -> None:
        self.ring.close()  # as the kernel does: nothing is stored by it
        self.ring = Ring(self.folder / "s0", 1 << 21)
        assert self.ring.predecessor is not None
        assert self.ring.predecessor[0] == self.noted
        assert self.found() == self.behind

    def found(self) -> list[bytes]:
        slots = self.ring.slots
        offset, length = slots.payloads(0, self.ring.found)
        return [slots.buf[o : o + n].tobytes() for o, n in zip(offset, length, strict=True)]


STEPS = st.lists(
    st.lists(SIZES, max_size=6)
    | st.sampled_from(["commit", "kill", "before", "after", "while freeing", "freed"]),
    max_size=20,
)


@settings(max_examples=60)
@given(STEPS)
def test_a_successor_finds_what_is_behind_the_last_commit(steps: list[list[int] | str]) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        machine = Machine(Path(folder))
        try:
            for step in steps:
                if isinstance(step, list):
                    machine.receive(step)
                elif step == "commit":
                    machine.commit()
                elif step == "kill":
                    machine.kill()
                else:
                    machine.killed_in_commit(step, patch)
            machine.kill()
        finally:
            machine.close()


def receiver(ring: Ring) -> tuple[Receiver, Exporters]:
    exporters = Exporters()
    urls = ["udp://127.0.0.1:0", "udp://[::1]:0"]
    made = Receiver(urls, exporters, Ledger(exporters), slots=ring.slots, clock=lambda: ARRIVAL)
    return made, exporters


def send(port: int, family: int, *payloads: bytes) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        for payload in payloads:
            sock.sendto(payload, ("::1" if family == socket.AF_INET6 else "127.0.0.1", port))


def taken(r: Receiver) -> int:
    n = 0
    while (batch := r.receive(0.1)) is not None:
        n += len(batch)
    return n


def test_senders_and_times_are_found_again(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "s", 1 << 21)
    ring.commit(({}, {}))
    r, _ = receiver(ring)
    for listener in r.listeners:
        send(listener.port, listener.family, *[b"x" * 9000, b"y"])
    assert taken(r) == 4
    # One that the kernel filled, and whose process was killed in the call.
    send(r.listeners[0].port, r.listeners[0].family, b"last")
    ring.slots.begin(ARRIVAL + 7)
    assert ring.slots.receive(r.listeners[0].socket.fileno(), 10) == 1
    r.close()
    ring.close()
    again = Ring(tmp_path / "s", 1 << 21)
    assert again.found == 5
    r, exporters = receiver(again)
    r._clock._clock = lambda: ARRIVAL + 9
    batches = list(r.adopted(ARRIVAL - 1))
    payloads = [b.payload(i) for b in batches for i in range(len(b))]
    senders = [exporters.address(int(e)) for b in batches for e in b.exporter]
    assert sorted(zip(payloads, senders, strict=True)) == sorted(
        [
            *((b"x" * 9000, "127.0.0.1"), (b"y", "127.0.0.1"), (b"last", "127.0.0.1")),
            *((b"x" * 9000, "::1"), (b"y", "::1")),
        ]
    )
    assert np.concatenate([b.arrival for b in batches]).tolist() == [*[ARRIVAL] * 4, ARRIVAL + 7]
    assert r.datagrams == 5
    r.close()
    again.close()


def test_times_of_a_predecessor_stay_within_bounds() -> None:
    slots = Slots(8)
    slots.used = 4
    slots._arrival[:4] = 0, 1 << 62, 5, 1
    slots.begin(3)
    assert slots.arrivals(0, 4, 4, 9).tolist() == [4, 9, 9, 9]


def test_long_datagrams_give_their_memory_back(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "s", 1 << 21)
    ring.commit(({}, {}))
    r, _ = receiver(ring)
    path = tmp_path / "s" / "slots"
    before = path.stat().st_blocks
    for _ in range(20):
        send(r.listeners[0].port, socket.AF_INET, b"z" * 60_000)
    assert taken(r) == 20
    assert path.stat().st_blocks * 512 >= 20 * 60_000
    ring.commit(({}, {}))
    assert path.stat().st_blocks * 512 <= before * 512 + 40 * HEAD + (1 << 16)
    r.close()
    ring.close()


def test_when_no_slot_is_free_datagrams_wait_at_the_socket(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "s", 0)
    ring.commit(({}, {}))
    r, _ = receiver(ring)
    send(r.listeners[0].port, socket.AF_INET, *[b"%d" % i for i in range(LEAST_SLOTS + 5)])
    assert taken(r) == LEAST_SLOTS
    assert not r.room
    assert ring.slots.crowded
    assert r.take() is None
    ring.commit(({}, {}))
    assert taken(r) == 5
    r.close()
    ring.close()


def test_a_ring_has_one_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(tmp_path / "s", 1 << 20)
    monkeypatch.setattr("flowray.ingest.ring.LOCK_SECONDS", 0.05)
    with pytest.raises(RingError, match="another process owns it"):
        Ring(tmp_path / "s", 1 << 20)
    ring.remove()
    assert not (tmp_path / "s").exists()
    Ring(tmp_path / "s", 1 << 20).close()


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _other_version(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8)
        file.write(b"\x77")


def _shorter(path: Path) -> None:
    os.truncate(path, size_of(LEAST_SLOTS) - FULL)


@pytest.mark.parametrize(
    ("name", "damage"),
    [("state", _cut_short), ("slots", _other_version), ("slots", _shorter), ("slots", Path.unlink)],
)
def test_what_cannot_be_used_is_set_aside(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    ring = Ring(tmp_path / "s", 0)
    ring.commit(({"n": 1}, {}))
    ring.close()
    damage(tmp_path / "s" / name)
    again = Ring(tmp_path / "s", 0)
    assert again.predecessor is None
    assert again.set_aside
    assert (tmp_path / "s.unusable" / "state").exists()
    again.commit(({"n": 2}, {}))
    again.close()
    third = Ring(tmp_path / "s", 0)
    assert third.predecessor is not None
    assert third.predecessor[0] == {"n": 2}
    third.close()


def test_lengths_of_no_datagram_end_what_is_found(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "s", 0)
    ring.commit(({}, {}))
    r, _ = receiver(ring)
    send(r.listeners[0].port, socket.AF_INET, b"a", b"b", b"c")
    assert taken(r) == 3
    ring.slots._headers["received"][ring.slots.parity, 1] = FULL + 1
    r.close()
    ring.close()
    again = Ring(tmp_path / "s", 0)
    assert again.found == 1
    again.close()


def test_what_kills_every_successor_is_set_aside(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "s", 0)
    ring.commit(({}, {}))
    r, _ = receiver(ring)
    send(r.listeners[0].port, socket.AF_INET, b"poison")
    assert taken(r) == 1
    r.close()
    ring.close()
    for _ in range(ATTEMPTS):
        again = Ring(tmp_path / "s", 0)
        assert again.found == 1
        again.close()
    last = Ring(tmp_path / "s", 0)
    assert last.predecessor is None
    assert f"{ATTEMPTS} shards died" in last.set_aside
    last.close()


def partial(sequence: int, rows: int) -> Partial:
    table = pa.table({"n": pa.array(range(rows), pa.int64())})
    return Partial("v-1", 2, "s", "i", sequence, 7 * sequence, table)


def test_partials_are_found_again_up_to_the_last_cut(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "s", 0)
    made = [ring.partials.keep(partial(n, rows)) for n, rows in ((1, 5), (2, 100_000), (12, 3))]
    assert [p.table.num_rows for p in made if p.table] == [5, 100_000, 3]
    ring.partials.forget(made[0])
    ring.commit(({}, {}))
    ring.partials.keep(partial(13, 1))
    ring.close()
    again = Ring(tmp_path / "s", 0)
    found = again.partials.restore("s", "i", {("v-1", 2): 12})
    assert found == made[1:]
    assert len(list((tmp_path / "s" / "partials").iterdir())) == 2
    again.close()


def test_held_data_is_written_when_it_changes(tmp_path: Path) -> None:
    def files() -> list[str]:
        return sorted(p.name for p in (tmp_path / "s").glob("held-*"))

    ring = Ring(tmp_path / "s", 0)
    ring.commit(({}, {}), pa.table({"a": [1]}))
    ring.commit(({}, {}))
    assert files() == ["held-1"]
    ring.close()
    ring = Ring(tmp_path / "s", 0)
    assert ring.predecessor is not None
    assert ring.predecessor[1]["held"].to_pylist() == [{"a": 1}]
    ring.commit(({}, {}), pa.table({"a": [2]}))
    assert files() == ["held-3"]
    ring.commit(({}, {}), pa.table({"a": pa.array([], pa.int64())}))
    assert files() == []
    ring.close()


def entry(number: int, value: int) -> dict[str, Any]:
    return {"exporter": "::1", "domain": number, "version": 9, "at": 1, "fact": [1, 1, value]}


def test_the_journal_ends_where_the_last_commit_was(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "s", 0)
    ring.journal.note([entry(1, 1), entry(2, 2)])
    ring.commit(({}, {}))
    ring.journal.note([entry(3, 3)])
    ring.journal.place()
    ring.close()
    again = Ring(tmp_path / "s", 0)
    assert list(again.journal.entries()) == [entry(1, 1), entry(2, 2)]
    again.close()


def test_the_journal_forgets_what_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowray.ingest.journal.GROWTH", 1000)
    ring = Ring(tmp_path / "s", 0)
    for n in range(500):
        ring.journal.note([entry(n % 3, n)])
        if n % 50 == 0:
            ring.commit(({}, {}))
    ring.commit(({}, {}))
    ring.close()
    assert len(list((tmp_path / "s").glob("known-*"))) == 1
    ring = Ring(tmp_path / "s", 0)
    known = {e["domain"]: e["fact"][2] for e in ring.journal.entries()}
    assert known == {n % 3: n for n in range(497, 500)}
    assert (tmp_path / "s" / f"known-{ring.journal._number}").stat().st_size < 8000
    ring.close()


def test_where_there_is_no_room_it_says_what_to_do(tmp_path: Path) -> None:
    space = os.statvfs(tmp_path)
    with pytest.raises(RingError, match=r"state\.ring.*listen\.ring"):
        Ring(tmp_path / "s", 2 * space.f_blocks * space.f_frsize)


def test_rings_of_two_states_keep_apart(tmp_path: Path) -> None:
    def configured(state: str, **listen: Any) -> Any:
        content = {
            "listen": listen,
            "views": [{"name": "v", "keys": ["src_host"]}],
            "state": {"path": state, "ring": str(tmp_path)},
        }
        return parse_settings(content, "test")

    one, two = (ring_directory(configured(name)) for name in ("a", "b"))
    assert one != two
    ring = open_ring(configured("a", ring="4MiB"), "ingest/n/0")
    assert ring is not None
    assert ring.directory == one / "ingest-n-0"
    assert octets_of(ring.slots.n) <= 4 << 20
    ring.remove()
    assert open_ring(configured("a", ring=0), "ingest/n/0") is None
