"""Forms of next hops: counted changes against a naive twin that keeps one object a class."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.next_hop_kernels import OTHER_FORM
from flowray.rib.next_hops import SharedNextHops, shown_attributes
from flowray.rib.table import NONE
from flowray.wire.bgp.attribute_store import AttributeStore

PLAIN, OTHER = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
MAPPED = bytes(10) + b"\xff\xff" + PLAIN
SIX = bytes.fromhex("20010db8000000000000000000000001")
LINK_LOCAL = MAPPED + bytes.fromhex("fe800000000000000000000000000001")

LOCAL_PREF = bytes.fromhex("40050400000064")
NO_MED = b""
MED_ZERO = bytes.fromhex("80040400000000")
AIGP = bytes.fromhex("801a0b01000b0000000000000007")


def canonical(hop: bytes, *attributes: bytes) -> bytes:
    return bytes([1, len(hop)]) + hop + b"".join(attributes)


def stored(*sets: bytes) -> tuple[AttributeStore, list[int]]:
    store = AttributeStore()
    length = np.array([len(s) for s in sets], np.int64)
    start = np.cumsum(length) - length
    return store, store.intern(np.frombuffer(b"".join(sets), np.uint8), start, length).tolist()


def ids(*values: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.array(values, np.uint32)


def test_the_form_that_came_first_is_shown_while_a_route_has_it() -> None:
    store, (plain, mapped) = stored(canonical(PLAIN, LOCAL_PREF), canonical(MAPPED, LOCAL_PREF))
    shared = SharedNextHops()
    shown = shared.follow(
        store, 0, ids(NONE, NONE, mapped, plain, NONE), ids(mapped, plain, NONE, NONE, plain)
    )
    other = plain | OTHER_FORM
    assert shown.tolist() == [mapped, other, mapped, other, plain]
    assert shown_attributes(store, other).next_hop == MAPPED
    assert shown_attributes(store, mapped | OTHER_FORM).next_hop == PLAIN


def test_a_route_that_changes_its_form_alone_keeps_the_first() -> None:
    store, (plain, mapped) = stored(canonical(PLAIN), canonical(MAPPED))
    shared = SharedNextHops()
    # The new attributes are looked for before the old ones are let go.
    assert shared.follow(store, 0, ids(NONE, plain), ids(plain, mapped)).tolist() == [
        plain,
        mapped | OTHER_FORM,
    ]


def test_what_is_compared() -> None:
    sets = [
        canonical(MAPPED, LOCAL_PREF, NO_MED),
        canonical(PLAIN, LOCAL_PREF, MED_ZERO),
        canonical(PLAIN, LOCAL_PREF, AIGP),
        canonical(PLAIN),
        canonical(OTHER, LOCAL_PREF),
        canonical(SIX, LOCAL_PREF),
        canonical(LINK_LOCAL, LOCAL_PREF),
    ]
    store, numbers = stored(*sets)
    shown = SharedNextHops().follow(store, 0, ids(*[NONE] * len(sets)), ids(*numbers))
    assert [bool(s & OTHER_FORM) for s in shown.tolist()] == [False, True, True, *[False] * 4]
    assert shown_attributes(store, int(shown[2])).aigp == 7


def test_routes_that_have_not_changed() -> None:
    store, (plain, mapped) = stored(canonical(PLAIN), canonical(MAPPED))
    shared = SharedNextHops()
    assert shared.shown(store, 0, ids(plain, mapped)).tolist() == [plain, mapped]
    shared.follow(store, 0, ids(NONE), ids(mapped))
    assert shared.shown(store, 0, ids(plain, mapped)).tolist() == [plain | OTHER_FORM, mapped]


def test_a_compaction_of_the_store_is_survived() -> None:
    store, (dead, plain, mapped) = stored(
        canonical(OTHER), canonical(PLAIN, LOCAL_PREF), canonical(MAPPED, LOCAL_PREF)
    )
    shared = SharedNextHops()
    shared.follow(store, 0, ids(NONE, NONE, dead), ids(dead, mapped, NONE))
    live = np.zeros(len(store), np.bool_)
    live[[plain, mapped]] = True
    remap = store.compact(live)
    plain, mapped = int(remap[plain]), int(remap[mapped])
    shown = shared.follow(store, 1, ids(NONE, mapped), ids(plain, NONE))
    assert shown.tolist() == [plain | OTHER_FORM, mapped]


SETS = [
    canonical(hop, *rest)
    for rest in ((), (LOCAL_PREF,), (LOCAL_PREF, AIGP))
    for hop in (PLAIN, MAPPED, OTHER, SIX)
]


class Twin:
    """Routes by number, each with the object [form, references] of its class."""

    def __init__(self) -> None:
        self.routes: dict[int, list[object]] = {}
        self.sets: dict[int, int] = {}
        self.classes: dict[object, list[object]] = {}

    def change(self, route: int, after: int | None) -> bool:
        """Whether the mapped form is shown."""
        old = self.routes.pop(route, None)
        told = old
        if after is not None:
            hop = SETS[after][2 : 2 + SETS[after][1]]
            plain = hop[12:] if hop.startswith(MAPPED[:12]) else hop
            alike = plain, LOCAL_PREF in SETS[after]
            told = self.classes.setdefault(alike, [hop == MAPPED, 0, alike])
            told[1] += 1  # type: ignore[operator]
            self.routes[route] = told
        if old is not None:
            old[1] -= 1  # type: ignore[operator]
            if old[1] == 0:
                del self.classes[old[2]]
        assert told is not None
        return bool(told[0])


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.none() | st.sampled_from(range(len(SETS))))),
        max_size=8,
    )
)
def test_as_its_twin(batches: list[list[tuple[int, int | None]]]) -> None:
    store, numbers = stored(*SETS)
    shared, twin = SharedNextHops(), Twin()
    had: dict[int, int] = {}
    for batch in batches:
        before, after, wanted = [], [], []
        for route, chosen in batch:
            if chosen is None and route not in had:
                continue
            before.append(had.pop(route, NONE))
            after.append(NONE if chosen is None else numbers[chosen])
            if chosen is not None:
                had[route] = numbers[chosen]
            wanted.append(twin.change(route, chosen))
        shown = shared.follow(store, 0, ids(*before), ids(*after))
        got = [shown_attributes(store, s).next_hop == MAPPED for s in shown.tolist()]
        assert got == wanted
