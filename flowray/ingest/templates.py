"""Templates of all exporters of a shard, and the plans that they compile to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flowray.columns import Layout
from flowray.hashing import MISSING, Index
from flowray.wire.flow.plan import V5_RECORD, Plan, compile_plan, reversible
from flowray.wire.flow.template import Template

V5_PLAN = 0
"""Number of the plan of NetFlow v5 records."""


@dataclass(frozen=True, slots=True)
class TemplateKey:
    """Whose template it is. Exporters are known by address alone, whatever their source port."""

    exporter: int
    domain: int
    version: int
    id: int


@dataclass(slots=True)
class Compiled:
    """A template's shape with its plans: one, or two if records hold both directions of a flow."""

    template: Template
    plans: tuple[Plan, ...]


class Templates:
    """Bounded by `per_exporter` templates each and `limit` in all.

    Templates of the same shape share a plan, whoever announced them, so that their records are
    decoded in one pass.
    """

    def __init__(
        self, layout: Layout, *, whole_seconds: bool, per_exporter: int = 4096, limit: int = 1 << 17
    ) -> None:
        self._layout = layout
        self._whole_seconds = whole_seconds
        self._per_exporter = per_exporter
        self._limit = limit
        self._known: dict[TemplateKey, Template] = {}
        self._of_exporter: dict[int, int] = {}
        self._start_over()

    def _start_over(self) -> None:
        self._number: dict[tuple[object, int], int] = {}
        self.compiled: list[Compiled] = []
        self.is_options = np.zeros(64, np.bool_)
        self.index = Index(256)
        self._compile(V5_RECORD)

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[tuple[TemplateKey, Template]]:
        return iter(self._known.items())

    def get(self, key: TemplateKey) -> Template | None:
        """The template as last told, or None."""
        return self._known.get(key)

    def put(self, key: TemplateKey, template: Template) -> bool:
        """Announce a template; returns False if it was refused because there are too many."""
        if key not in self._known:
            count = self._of_exporter.get(key.exporter, 0)
            if count >= self._per_exporter or len(self._known) >= self._limit:
                return False
            self._of_exporter[key.exporter] = count + 1
        if len(self.compiled) >= 2 * self._limit or len(self.index) >= 4 * self._limit:
            self._compact()
        self._known[key] = template
        self._point(key, self._compile(template))
        return True

    def _compact(self) -> None:
        """Drop plans and look-up keys that redefinitions and withdrawals left behind."""
        self._start_over()
        for key, template in self._known.items():
            self._point(key, self._compile(template))

    def withdraw(self, key: TemplateKey) -> None:
        """Forget a template (RFC 7011 section 8.1); unknown ones are ignored."""
        if self._known.pop(key, None) is not None:
            self._of_exporter[key.exporter] -= 1
            self._point(key, int(MISSING))

    def withdraw_all(self, key: TemplateKey, *, options: bool) -> None:
        """Forget all templates, or all options templates, of a domain."""
        gone = [
            k
            for k, t in self._known.items()
            if (k.exporter, k.domain, k.version) == (key.exporter, key.domain, key.version)
            and t.is_options == options
        ]
        for k in gone:
            self.withdraw(k)

    def _point(self, key: TemplateKey, number: int) -> None:
        self.index.put(key.exporter << 32 | key.domain, key.version << 16 | key.id, number)

    def _compile(self, template: Template) -> int:
        shape = (template.fields, template.scope_count)
        if shape in self._number:
            return self._number[shape]
        plans: tuple[Plan, ...] = ()
        if not template.is_options:
            directions = (False, True) if reversible(template) else (False,)
            plans = tuple(
                compile_plan(
                    template, self._layout, reverse=reverse, whole_seconds=self._whole_seconds
                )
                for reverse in directions
            )
        number = len(self.compiled)
        if number >= self.is_options.size:
            self.is_options = np.concatenate((self.is_options, np.zeros_like(self.is_options)))
        self.compiled.append(Compiled(template, plans))
        self.is_options[number] = template.is_options
        self._number[shape] = number
        return number
