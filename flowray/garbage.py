"""Python's search for cyclic garbage, set for how our processes live.

A process loads half a million objects (modules, numba's types, kernels), which stay until its end;
records are in arrays, and those are freed as soon as nothing refers to them. Searched as often as
is the default, the former cost 0.2 s of CPU in a start and 0.3 s more at the end.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 100_000
"""New objects between two searches: some 10 MB, if all of them are garbage."""


def search_seldom() -> None:
    """From here on, in a process that has loaded all that it needs."""
    gc.freeze()
    gc.set_threshold(YOUNG)


@contextmanager
def rarely_searched() -> Iterator[None]:
    """Around all that a process does: search seldom, and not at the end, when all of it goes."""
    gc.set_threshold(YOUNG)
    try:
        yield
    finally:
        gc.freeze()
