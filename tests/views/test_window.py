"""Windows and revisions against counting them out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.views.window import Windows, is_others, revision, window_word
from tests.views.view_twin import window_of

S = 10**9
NOW = 1_760_000_000 * S
WIDTH = st.sampled_from([S, 60 * S, 300 * S, 3600 * S, 86_400 * S])
ANY = st.integers(-(1 << 63), (1 << 63) - 1)


@st.composite
def windows(draw: st.DrawFn) -> Windows:
    width = draw(WIDTH)
    return Windows(width, draw(st.integers(0, width - 1)), draw(st.integers(0, 3 * width)))


@given(windows(), st.lists(st.tuples(st.floats(-2, 50), st.integers(0, 100)), max_size=20))
def test_words(w: Windows, records: list[tuple[float, int]]) -> None:
    """Times around the arrival, in widths before it."""
    arrival = np.array([NOW + ms * 10**6 for _, ms in records], np.int64)
    time = arrival - np.array([int(age * w.width) for age, _ in records], np.int64)
    words = w.words(time, arrival)
    expected = [
        window_of(t, a, w.width, w.offset, w.lateness)
        for t, a in zip(time.tolist(), arrival.tolist(), strict=True)
    ]
    assert w.start(words).tolist() == [start for start, _ in expected]
    assert revision(words).tolist() == [number for _, number in expected]
    assert not is_others(words).any()
    assert words.tolist() == [window_word(*place, w, others=False) for place in expected]
    for (start, number), a in zip(expected, arrival.tolist(), strict=True):
        assert (start - w.offset) % w.width == 0
        # It may be closed as soon as its last record must have arrived, and no sooner.
        assert a < w.deadline(start, number)
        assert number == 0 or a >= w.deadline(start, number - 1)


@given(windows(), st.lists(st.tuples(ANY, ANY), max_size=20))
def test_any_time_has_a_window(w: Windows, records: list[tuple[int, int]]) -> None:
    """Exporters tell times of any size: none spills over into the others bit or another window."""
    time, arrival = np.array(records, np.int64).reshape(-1, 2).T.copy()
    words = w.words(time, arrival)
    assert not is_others(words).any()
    start = w.start(words)
    assert (start >= 0).all()
    assert (start <= np.maximum(arrival, w.width)).all()
    again = [
        window_word(s, r, w, others=False)
        for s, r in zip(start.tolist(), revision(words).tolist(), strict=True)
    ]
    assert again == words.tolist()


def test_others_bit() -> None:
    w = Windows(60 * S)
    word = window_word(NOW // (60 * S) * 60 * S, 3, w, others=True)
    words = np.array([word, word % (1 << 63)], np.uint64)
    assert is_others(words).tolist() == [True, False]
    assert revision(words).tolist() == [3, 3]
    assert w.start(words).tolist() == [NOW // (60 * S) * 60 * S] * 2
