"""Template sets against a naive reader, and what must be refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.generate import encode as e
from flowray.wire.flow.template import (
    MAX_FIELDS,
    V9_SCOPE_PEN,
    VARIABLE,
    Template,
    TemplateError,
    TemplateField,
    Withdrawal,
    parse_templates,
)

LENGTH = st.one_of(st.integers(1, 300), st.just(VARIABLE))
FIELD = st.tuples(st.integers(1, 0x7FFF), LENGTH, st.one_of(st.just(0), st.integers(1, 1 << 32)))
PLAIN_FIELD = st.tuples(st.integers(1, 0x7FFF), st.integers(1, 300), st.just(0))


def fields_of(spec: e.TemplateSpec) -> tuple[TemplateField, ...]:
    return tuple(TemplateField(*f) for f in spec.fields)


def specs(
    field: st.SearchStrategy[e.FieldSpec], *, options: bool
) -> st.SearchStrategy[list[e.TemplateSpec]]:
    fields = st.lists(field.filter(lambda f: f[2] < 1 << 32), min_size=1, max_size=20).map(tuple)
    one = st.tuples(st.integers(256, 65_535), fields).flatmap(
        lambda t: st.integers(1, len(t[1])).map(
            lambda scopes: e.TemplateSpec(t[0], t[1], scopes if options else 0)
        )
    )
    return st.lists(one, max_size=5)


@given(specs(FIELD, options=False))
def test_ipfix_templates(wanted: list[e.TemplateSpec]) -> None:
    found = parse_templates(e.ipfix_template_set(*wanted)[4:], 10, options=False)
    assert found == [Template(w.id, fields_of(w)) for w in wanted]


@given(specs(FIELD, options=True))
def test_ipfix_options_templates(wanted: list[e.TemplateSpec]) -> None:
    found = parse_templates(e.ipfix_options_template_set(*wanted)[4:], 10, options=True)
    assert found == [Template(w.id, fields_of(w), w.scope_count) for w in wanted]


@given(specs(PLAIN_FIELD, options=False))
def test_v9_templates(wanted: list[e.TemplateSpec]) -> None:
    found = parse_templates(e.v9_template_set(*wanted)[4:], 9, options=False)
    assert found == [Template(w.id, fields_of(w)) for w in wanted]


@given(specs(PLAIN_FIELD, options=True))
def test_v9_options_templates(wanted: list[e.TemplateSpec]) -> None:
    """Scope types with an IANA element become that, the others a PEN that no exporter has."""
    elements = {2: 10, 5: 145}
    found = parse_templates(e.v9_options_template_set(*wanted)[4:], 9, options=True)
    for got, want in zip(found, wanted, strict=True):
        assert isinstance(got, Template)
        assert got.scope_count == want.scope_count
        assert got.is_options
        for n, (field, (element, length, _)) in enumerate(
            zip(got.fields, want.fields, strict=True)
        ):
            scope = n < want.scope_count
            number = elements.get(element, element) if scope else element
            pen = V9_SCOPE_PEN if scope and element not in elements else 0
            assert field == TemplateField(number, length, pen)


@given(st.lists(st.integers(0, 65_535), min_size=1, max_size=6), st.booleans())
def test_withdrawals(ids: list[int], options: bool) -> None:
    raw = e.ipfix_withdrawal_set(*ids, options=options)[4:]
    kept = ids[: ids.index(0)] if 0 in ids else ids  # id 0 without fields is padding
    assert parse_templates(raw, 10, options=options) == [Withdrawal(i) for i in kept]


@given(st.binary(max_size=200), st.sampled_from([9, 10]), st.booleans())
def test_any_octets(raw: bytes, version: int, options: bool) -> None:
    try:
        found = parse_templates(raw, version, options=options)
    except TemplateError:
        return
    for t in found:
        if isinstance(t, Template):
            assert t.id >= 256
            assert 0 < t.least_size <= 0xFFFF
            assert 0 < len(t.fields) <= len(raw) // 4
            assert t.scope_count <= len(t.fields) or not t.fields


@given(st.binary(max_size=200), st.integers(1, 3))
def test_padding(raw: bytes, octets: int) -> None:
    body = e.ipfix_template_set(e.TemplateSpec(256, ((8, 4, 0),)))[4:]
    once = parse_templates(body, 10, options=False)
    assert parse_templates(body + bytes(octets), 10, options=False) == once
    assert parse_templates(body + bytes(4) + raw, 10, options=False) == once


@pytest.mark.parametrize(
    ("raw", "options", "cause"),
    [
        (struct.pack("!HHHH", 256, 65_535, 1, 4), False, "too many fields"),
        (struct.pack("!HH", 256, MAX_FIELDS + 1) + bytes(4096 * 4), False, "too many fields"),
        (struct.pack("!HHHH", 256, 2, 1, 4), False, "template overruns its set"),
        (struct.pack("!HHHH", 256, 1, 0x8001, 4), False, "template overruns its set"),
        (struct.pack("!HHHH", 255, 1, 1, 4), False, "template id below 256"),
        (struct.pack("!HHHH", 256, 1, 1, 0), False, "template of empty records"),
        (struct.pack("!HHHHHH", 256, 2, 1, 65_534, 2, 2), False, "record longer than a message"),
        (struct.pack("!HHHHH", 256, 1, 0, 1, 4), True, "impossible scope count"),
        (struct.pack("!HHHHH", 256, 1, 2, 1, 4), True, "impossible scope count"),
        (struct.pack("!HH", 256, 1), True, "template overruns its set"),
    ],
)
def test_refused(raw: bytes, options: bool, cause: str) -> None:
    with pytest.raises(TemplateError, match=cause):
        parse_templates(raw, 10, options=options)


def test_a_refused_template_costs_no_other() -> None:
    good, bad = struct.pack("!HHHH", 256, 1, 1, 4), struct.pack("!HHHH", 257, 1, 1, 0)
    last, cut = struct.pack("!HHHH", 258, 1, 2, 4), struct.pack("!HHHH", 259, 2, 1, 4)
    with pytest.raises(TemplateError, match="template of empty records") as caught:
        parse_templates(good + bad + last + cut, 10, options=False)
    assert [t.id for t in caught.value.found] == [256, 258]


@pytest.mark.parametrize("lengths", [(3, 4), (4, 2), (0, 0)])
def test_refused_v9_options(lengths: tuple[int, int]) -> None:
    raw = struct.pack("!HHH", 256, *lengths) + struct.pack("!HHHH", 1, 4, 34, 4)
    with pytest.raises(TemplateError):
        parse_templates(raw, 9, options=True)
