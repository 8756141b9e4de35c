import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.sinks.jsonl import JsonLines, fragments, to_jsonl
from flowray.sinks.render import OMIT

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
MAPS = st.dictionaries(TEXT, TEXT, max_size=2)

COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "string": (pa.string(), TEXT),
    "uint8": (pa.uint8(), st.integers(0, 255)),
    "uint64": (pa.uint64(), st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 9, 10, 99]))),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "bool": (pa.bool_(), st.booleans()),
    "null": (pa.null(), st.none()),
    "texts": (pa.dictionary(pa.int32(), pa.string()), TEXT),
    "lists": (pa.list_(pa.string()), st.lists(TEXT, max_size=2)),
    "maps": (pa.map_(pa.string(), pa.string()), MAPS.map(lambda m: list(m.items()))),
    "objects": (
        pa.struct({'a"': pa.string(), "b": pa.uint16()}),
        st.fixed_dictionaries(
            {'a"': st.one_of(st.none(), TEXT), "b": st.one_of(st.none(), st.integers(0, 65535))}
        ),
    ),
}


def column(kind: pa.DataType, values: list[Any]) -> pa.Array:
    """An array as rendering makes it: lists and maps are dictionary-encoded."""
    if not (pa.types.is_list(kind) or pa.types.is_map(kind)):
        return pa.array(values, kind)
    present = [v for v in values if v is not None]
    indices = iter(range(len(present)))
    index = pa.array([None if v is None else next(indices) for v in values], pa.int32())
    return pa.DictionaryArray.from_arrays(index, pa.array(present, kind))


def plain(name: str, value: Any) -> Any:
    return dict(value) if name.startswith("maps") and value is not None else value


@given(data=st.data(), n=st.integers(0, 5))
def test_lines_read_back_as_the_values(data: st.DataObject, n: int) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=6))
    values, arrays = {}, {}
    for i, name in enumerate(names):
        kind, some = COLUMNS[name]
        key = f"{name}{i}é"
        values[key] = data.draw(
            st.lists(st.one_of(some, some, st.none()), min_size=n, max_size=n), label=key
        )
        arrays[key] = column(kind, values[key])
    table = pa.table(arrays)
    expected = [{key: plain(key, v[row]) for key, v in values.items()} for row in range(n)]
    text = bytes(to_jsonl(table)).decode()
    lines = text.split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == expected
    # A slice has offsets in its buffers; what it gives must not depend on them.
    assert bytes(to_jsonl(table.slice(1))).decode() == "".join(f"{line}\n" for line in lines[1:])


def test_more_rows_than_a_block() -> None:
    n = 10_000
    table = pa.table(
        {"a": pa.array(range(n), pa.uint32()), "b": ["x" * (i % 50) for i in range(n)]}
    )
    lines = bytes(to_jsonl(table)).splitlines()
    assert [json.loads(line) for line in lines] == table.to_pylist()


def test_chunks_follow_each_other() -> None:
    table = pa.concat_tables([pa.table({"a": ["x"]}), pa.table({"a": ["y", "z"]})])
    assert bytes(to_jsonl(table)) == b'{"a":"x"}\n{"a":"y"}\n{"a":"z"}\n'


def test_dictionaries_may_change_between_batches() -> None:
    lines = JsonLines()
    for texts in (["a", "b"], ["c", "d"], ["c", "e"]):
        batch = pa.record_batch({"t": pa.array(texts).dictionary_encode()})
        expected = "".join(f'{{"t":"{t}"}}\n' for t in texts)
        assert bytes(lines.batch(batch)).decode() == expected


def test_keys_that_are_left_out_unless_true() -> None:
    schema = pa.schema(
        [
            pa.field("others", pa.bool_(), metadata={OMIT: b"false"}),
            pa.field("n", pa.uint8()),
            pa.field("more", pa.bool_(), metadata={OMIT: b"false"}),
        ]
    )
    flags = pa.array([True, False])
    table = pa.table([flags, pa.array([1, 2], pa.uint8()), flags], schema=schema)
    # The first key of an object cannot be left out: the comma would be missing or too many.
    assert bytes(to_jsonl(table)) == b'{"others":true,"n":1,"more":true}\n{"others":false,"n":2}\n'


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1.5]),
        pa.array([["x"]]),
        pa.array([b"x"]),
        pa.array([1.5]).dictionary_encode(),
        pa.StructArray.from_arrays([pa.array([1.5])], names=["deep"]),
    ],
)
def test_types_without_a_form_are_refused(array: pa.Array) -> None:
    with pytest.raises(TypeError, match="no JSON lines form"):
        to_jsonl(pa.table({"column": array}))


@given(st.lists(TEXT, max_size=4))
def test_fragments_are_json(values: list[str]) -> None:
    found = fragments(pa.array(values, pa.string())).to_pylist()
    assert [json.loads(text) for text in found] == values
    lists = fragments(pa.array([values], pa.list_(pa.string()))).to_pylist()
    assert [json.loads(text) for text in lists] == [values]
