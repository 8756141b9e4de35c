"""What the operator declares about exporters: label and sampling maps, by exporter id."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from flowray.hashing import U64, Interner
from flowray.maps import LabelMap, SamplingMap
from flowray.wire.packets import Exporters


@dataclass(slots=True)
class OperatorMaps:
    """Maps, evaluated once per exporter: both match on nothing but the exporter's address."""

    labels: LabelMap | None = None
    sampling: SamplingMap | None = None
    _label_ids: U64 = field(default_factory=lambda: np.empty(0, np.uint64))
    _label_texts: Interner | None = None
    _rates: U64 = field(default_factory=lambda: np.empty(0, np.uint64))

    def label_ids(self, exporters: Exporters, texts: Interner) -> U64 | None:
        """(exporters,) interned labels, or None without a label map."""
        if self.labels is None:
            return None
        if texts is not self._label_texts:
            self._label_ids, self._label_texts = np.empty(0, np.uint64), texts
        known = self._label_ids.size
        if known < len(exporters):
            new = self.labels.labels(exporters.hi[known:], exporters.lo[known:])
            self._label_ids = np.concatenate((self._label_ids, texts.add_all(new)))
        return self._label_ids

    def rates(self, exporters: Exporters) -> U64 | None:
        """(exporters,) sampling rates, 0 where the map says nothing, or None without a sampling
        map.
        """
        if self.sampling is None:
            return None
        known = self._rates.size
        if known < len(exporters):
            new = self.sampling.rates(exporters.hi[known:], exporters.lo[known:])
            self._rates = np.concatenate((self._rates, new.astype(np.uint64)))
        return self._rates
