"""The configuration that runs, where every actor of the cluster finds it: it may have changed since
an actor was made, and Ray starts actors again with the arguments that they were made with.

It is in Ray's key-value store (GCS), which goes with the cluster.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass

from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from actors.naming import NAMESPACE
from flowray.settings.model import Settings

KEY = "configuration"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, the file that they are from, and how often they were changed in this run."""

    settings: Settings
    file: str
    number: int = 0


def publish(configuration: Configuration) -> None:
    """Have actors that start from now on run with this."""
    _internal_kv_put(KEY, pickle.dumps(configuration), namespace=NAMESPACE)


def current() -> Configuration | None:
    """What is to run, None if nobody said so."""
    # As trusted as the arguments of an actor, which Ray pickles too.
    content = _internal_kv_get(KEY, namespace=NAMESPACE)
    if content is None:
        return None
    configuration: Configuration = pickle.loads(content)  # noqa: S301
    return configuration
