"""The fixtures of conftest.py do what their users rely on."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from numba import njit


@njit
def _first_past_the_end(array: npt.NDArray[np.int64]) -> int:
    return int(array[len(array)])


def test_kernels_under_test_check_their_bounds() -> None:
    with pytest.raises(IndexError):
        _first_past_the_end(np.zeros(3, np.int64))


def test_a_missing_peer_is_a_skip_and_in_ci_a_failure(
    peer: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="scripts/services install"):
        peer("nfacctd")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="Debian package pmacct"):
        peer("nfacctd")


@pytest.mark.ray
def test_ray_runs_an_actor_that_imports_the_engine(ray_local: ModuleType) -> None:
    class Probe:
        def fields(self) -> int:
            from flowray.fields import REGISTRY

            return len(list(REGISTRY))

    probe = ray_local.remote(num_cpus=0)(Probe).remote()
    assert ray_local.get(probe.fields.remote()) > 0
