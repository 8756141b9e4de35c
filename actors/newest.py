"""Asks the aggregators of a view for its first rows."""

from __future__ import annotations

import ray

from actors.naming import NAMESPACE, aggregate_name
from flowray.views.leading import Leading
from flowray.views.view import ViewPlan

ANSWER_SECONDS = 30


def ask_aggregators(plan: ViewPlan, n: int) -> list[Leading]:
    """The n first rows by each counter of the newest open window of each partition that has one.
    Needs a connection to Ray. Raises ValueError for a view that does not run, RayError.
    """
    names = [aggregate_name(plan.name, p) for p in range(plan.partitions)]
    calls = [ray.get_actor(name, NAMESPACE).leading.remote(n) for name in names]
    parts: list[list[Leading]] = ray.get(calls, timeout=ANSWER_SECONDS)
    return [one for part in parts for one in part]
