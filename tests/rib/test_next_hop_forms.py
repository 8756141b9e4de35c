"""Forms of IPv4 next hops, against a plain account of which routes have which sets."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.next_hop_forms import NextHopForm, NextHopForms
from flowray.rib.table import NONE

TOLD, IPV4, MAPPED = NextHopForm
V4 = bytes([192, 0, 2, 1])
V6 = bytes.fromhex("20010db8000000000000000000000001")
PATHS = (b"\x40\x01\x01\x00", b"\x40\x01\x01\x02")

SETS = [
    b"\x01\x00",
    *(b"\x01\x04" + V4 + path for path in PATHS),
    *(b"\x01\x10" + bytes(10) + b"\xff\xff" + V4 + path for path in PATHS),
    *(b"\x01\x10" + V6 + path for path in PATHS),
]
"""No next hop; then of each form a set of either path."""

GROUP = (None, 0, 1, 0, 1, None, None)
FORM = (TOLD, IPV4, IPV4, MAPPED, MAPPED, TOLD, TOLD)


def ids(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint32)


def forms(*numbers: int) -> NextHopForms:
    followed = NextHopForms(SETS.__getitem__)
    followed.follow(ids(*numbers), ids(*[NONE] * len(numbers)))
    return followed


def test_the_first_form_stays_as_long_as_a_route_has_the_set() -> None:
    followed = NextHopForms(SETS.__getitem__)
    assert followed.follow(ids(3, 1, 2, 5), ids(*[NONE] * 4)).tolist() == [
        MAPPED, MAPPED, IPV4, TOLD
    ]  # fmt: skip
    # The route that told it is gone; the other one keeps it, and is shown in it when it goes.
    assert followed.follow(ids(NONE, NONE), ids(3, 1)).tolist() == [MAPPED, MAPPED]
    assert followed.follow(ids(1), ids(NONE)).tolist() == [IPV4]


def test_a_route_that_changes_within_a_set_keeps_its_form() -> None:
    assert forms(1).follow(ids(3), ids(1)).tolist() == [IPV4]


def test_forms_of_dumps() -> None:
    assert forms(3, 2).shown(ids(1, 3, 2, 4, 5, 0)).tolist() == [
        MAPPED, MAPPED, IPV4, IPV4, TOLD, TOLD
    ]  # fmt: skip


def test_forms_outlive_other_ids() -> None:
    sets = list(SETS)
    followed = NextHopForms(lambda i: sets[i])
    followed.follow(ids(3, 2), ids(NONE, NONE))
    followed.follow(ids(NONE), ids(2))
    sets[:] = [SETS[0], SETS[1], SETS[4]]
    followed.forget()
    assert followed.follow(ids(1, 2), ids(NONE, NONE)).tolist() == [MAPPED, MAPPED]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 6)), max_size=40),
    st.integers(1, 5),
)
def test_like_a_plain_account(events: list[tuple[int, int | None]], batch: int) -> None:
    """Four routes that get a set or go."""
    routes: dict[int, int] = {}
    count: Counter[int] = Counter()
    form: dict[int, NextHopForm] = {}
    rows, expected = [], []
    for route, new in events:
        old = routes.pop(route, None)
        if new is None and old is None:
            continue
        rows.append((NONE if new is None else new, NONE if old is None else old))
        group = GROUP[old] if new is None else GROUP[new]
        if new is not None:
            routes[route] = new
            if group is not None:
                if not count[group]:
                    form[group] = FORM[new]
                count[group] += 1
        expected.append(TOLD if group is None else form[group])
        if old is not None and (left := GROUP[old]) is not None:
            count[left] -= 1
    followed = NextHopForms(SETS.__getitem__)
    found: list[int] = []
    for begin in range(0, len(rows), batch):
        some = rows[begin : begin + batch]
        new_ids, old_ids = (ids(*column) for column in zip(*some, strict=True))
        found += followed.follow(new_ids, old_ids).tolist()
    assert found == expected
