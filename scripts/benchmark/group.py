"""Groups stored records: `group FOLDER CSV`."""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import csv

from benchmark.sums import COUNTERS, FLOWRAY


def main() -> None:
    folder, target = sys.argv[1:]
    keys = [name for name in FLOWRAY if name not in COUNTERS]
    records = ds.dataset(folder, format="parquet").to_table(columns=list(FLOWRAY))
    rows = records.group_by(keys).aggregate([(n, "sum") for n in COUNTERS])
    rows = rows.select([*keys, *(f"{name}_sum" for name in COUNTERS)])
    rows = rows.rename_columns([*keys, *COUNTERS])
    plain = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in rows.columns
    ]
    csv.write_csv(pa.table(plain, rows.column_names), target)


if __name__ == "__main__":
    main()
