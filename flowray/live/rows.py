"""Leading rows as JSON objects: the same keys and values as in the files of JSON lines."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowray.field import Field
from flowray.settings.compile import Program
from flowray.sinks.encoding import Encoding
from flowray.sinks.jsonl import to_jsonl
from flowray.sinks.render import render
from flowray.views.leading import Leading


@dataclass(frozen=True, slots=True)
class RowForm:
    """How a view's rows are written."""

    fields: tuple[Field, ...]
    encoding: Encoding

    @classmethod
    def of(cls, program: Program, view: str) -> RowForm:
        """That of its sinks, without the event_type or the nulls of their other forms of records:
        what is open is no record yet.
        """
        encoding = replace(program.encoding(view), records="rows")
        return cls(tuple(program.output_fields(view)), encoding)

    def lines(self, leading: Leading) -> list[bytes]:
        """A JSON object for each row of the table."""
        window = leading.totals.start, leading.totals.end
        table = render(leading.table, self.fields, self.encoding, window)
        return to_jsonl(table).to_pybytes().split(b"\n")[:-1]
