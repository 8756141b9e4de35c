"""Templates of all exporters of a shard, and the plans that they compile to."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from flowray.columns import Layout
from flowray.hashing import MISSING, Index
from flowray.wire.flow.plan import V5_RECORD, Plan, compile_plan, reversible
from flowray.wire.flow.template import Template, TemplateField

Shape: TypeAlias = tuple[tuple[TemplateField, ...], int]
"""What templates that share a plan have in common: fields and number of scope fields."""

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
    """Bounded by `per_exporter` templates each, `limit` in all, and `field_limit` fields in all
    different shapes.

    Templates of the same shape share a plan, whoever announced them, so that their records are
    decoded in one pass.

    A template that has no room takes that of one that no data set used for `idle_ns` or longer (RFC
    7011 section 8.4 lets those of UDP expire); `expired` is told.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        whole_seconds: bool,
        per_exporter: int = 4096,
        limit: int = 1 << 17,
        field_limit: int = 1 << 20,
        idle_ns: int = 1800 * 1_000_000_000,
        expired: Callable[[TemplateKey], None] = lambda _: None,
    ) -> None:
        self._layout = layout
        self._whole_seconds = whole_seconds
        self._per_exporter = per_exporter
        self._limit = limit
        self._field_limit = field_limit
        self._idle_ns = idle_ns
        self._expired = expired
        self._aged: int | None = None
        self._candidates: dict[int, deque[TemplateKey]] = {}
        self._uses: Counter[Shape] = Counter()
        self._fields = 0
        self._known: dict[TemplateKey, Template] = {}
        self._of_exporter: dict[int, int] = {}
        self._start_over()

    def _start_over(self) -> None:
        self._number: dict[Shape, int] = {}
        self.compiled: list[Compiled] = []
        self._compiled_fields = 0
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

    def put(self, key: TemplateKey, template: Template, now_ns: int) -> bool:
        """Announce a template; returns False if it was refused because there are too many."""
        if not self._make_room(key, template, now_ns):
            return False
        fields = len(template.fields)
        old = self._known.get(key)
        if old is None:
            self._of_exporter[key.exporter] = self._of_exporter.get(key.exporter, 0) + 1
        else:
            self._release(old)
        if (
            len(self.compiled) >= 2 * self._limit
            or len(self.index) >= 4 * self._limit
            or self._compiled_fields >= 2 * self._field_limit
        ):
            self._compact()
        number = self._compile(template)
        # One tuple of fields for all templates of a shape.
        shared = self.compiled[number].template.fields
        self._known[key] = replace(template, fields=shared)
        self._fields += 0 if self._uses[_shape(template)] else fields
        self._uses[_shape(template)] += 1
        self._point(key, number)
        self.index.touch(*_words(key))
        return True

    def _make_room(self, key: TemplateKey, template: Template, now_ns: int) -> bool:
        """Expire idle templates until this one fits; returns False if it does not."""
        while True:
            crowded = self._of_exporter.get(key.exporter, 0) >= self._per_exporter
            full = key not in self._known and (crowded or len(self._known) >= self._limit)
            fields = 0 if self._uses[_shape(template)] else len(template.fields)
            if not full and self._fields + fields <= self._field_limit:
                return True
            idle = self._idle(key.exporter if full and crowded else None, now_ns)
            if idle is None:
                return False
            self.withdraw(idle)
            self._expired(idle)

    def _idle(self, exporter: int | None, now_ns: int) -> TemplateKey | None:
        """An idle template, of this exporter if one is given."""
        if self._aged is None or now_ns - self._aged >= self._idle_ns:
            self._age(now_ns)
        while self._candidates:
            of = next(iter(self._candidates)) if exporter is None else exporter
            keys = self._candidates.get(of, deque())
            while keys:
                key = keys.popleft()
                if key in self._known and self.index.idle(*_words(key)):
                    return key
            self._candidates.pop(of, None)
            if exporter is not None:
                break
        return None

    def _age(self, now_ns: int) -> None:
        """Begin a period of `idle_ns` or longer, in which each template is looked at once."""
        self._aged = now_ns
        self.index.age()
        self._candidates = defaultdict(deque)
        for key in self._known:
            self._candidates[key.exporter].append(key)

    def _release(self, template: Template) -> None:
        shape = _shape(template)
        self._uses[shape] -= 1
        if not self._uses[shape]:
            del self._uses[shape]
            self._fields -= len(template.fields)

    def _compact(self) -> None:
        """Drop plans and look-up keys that redefinitions and withdrawals left behind."""
        idle = {key for key in self._known if self.index.idle(*_words(key))}
        self._start_over()
        for key, template in self._known.items():
            self._point(key, self._compile(template))
            if key not in idle:
                self.index.touch(*_words(key))

    def withdraw(self, key: TemplateKey) -> None:
        """Forget a template (RFC 7011 section 8.1); unknown ones are ignored."""
        template = self._known.pop(key, None)
        if template is not None:
            self._release(template)
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
        self.index.put(*_words(key), number)

    def _compile(self, template: Template) -> int:
        shape = _shape(template)
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
        self._compiled_fields += len(template.fields)
        self.is_options[number] = template.is_options
        self._number[shape] = number
        return number


def _words(key: TemplateKey) -> tuple[int, int]:
    """The pair under which the index has a template."""
    return key.exporter << 32 | key.domain, key.version << 16 | key.id


def _shape(template: Template) -> Shape:
    return template.fields, template.scope_count
