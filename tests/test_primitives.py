"""Fields declared by operators."""

from pathlib import Path

import pytest

from flowray.errors import ConfigError
from flowray.field import Kind
from flowray.fields import Registry
from flowray.maps import MapRow
from flowray.primitives import compile_primitives, load_primitives, shadowed

GOOD = {"name": "x", "field_type": "46", "len": "1", "semantics": "u_int"}


def row(**values: str) -> MapRow:
    return MapRow("p.lst", 7, GOOD | values)


@pytest.mark.parametrize(
    ("semantics", "length", "kind", "bits"),
    [
        ("u_int", "1", Kind.UINT, 8),
        ("u_int", "3", Kind.UINT, 24),
        ("u_int", "8", Kind.UINT, 64),
        ("hex", "2", Kind.HEX, 16),
        ("ip", "4", Kind.ADDRESS, 128),
        ("ip", "16", Kind.ADDRESS, 128),
        ("mac", "6", Kind.MAC, 48),
        ("str", "32", Kind.TEXT, 32),
        ("str", "vlen", Kind.TEXT, 32),
        ("raw", "vlen", Kind.BYTES, 32),
    ],
)
def test_semantics(semantics: str, length: str, kind: Kind, bits: int) -> None:
    (field,) = compile_primitives([row(semantics=semantics, len=length)])
    assert (field.name, field.key, field.kind, field.bits) == ("x", "x", kind, bits)
    assert (field.custom, field.group, field.decoded) == (True, "custom", True)


@pytest.mark.parametrize(
    ("field_type", "elements"),
    [
        ("46", ((46,),)),
        ("0:500", ((500,),)),
        ("40001", ((40001,),)),
        ("6871:33", (((6871, 33),),)),
        ("4294967295:32767", (((4294967295, 32767),),)),
    ],
)
def test_elements(field_type: str, elements: object) -> None:
    (field,) = compile_primitives([row(field_type=field_type)])
    assert field.elements == elements


def test_a_declared_field_says_which_element_it_is() -> None:
    (field,) = compile_primitives([row(field_type="6871:33")])
    assert field.doc == "declared: element 6871:33 (silkAppLabel)"
    (field,) = compile_primitives([row(field_type="1:2")])
    assert field.doc == "declared: element 1:2"


def test_a_file_extends_the_registry(tmp_path: Path) -> None:
    path = tmp_path / "p.lst"
    path.write_text(
        "! declared here\n"
        "name=vrf_id_ingress field_type=234 len=4 semantics=u_int\n"
        "name=top field_type=47 len=4 semantics=ip\n"
    )
    registry = Registry(load_primitives(path))
    assert registry["vrf_id_ingress"].elements == ((234,),)
    assert registry.by_key("top") == registry["top"]


def test_built_in_fields_keep_their_names() -> None:
    rows = [row(name="vrf_name", field_type="236", len="32", semantics="str"), row()]
    assert [f.name for f in compile_primitives(rows)] == ["x"]
    assert shadowed(rows) == rows[:1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "9x"}, "name: found '9x', allowed letters"),
        ({"name": "_exporter"}, "name: found '_exporter', allowed letters"),
        ({"name": "ip_src"}, "name: found ip_src, allowed a name that is not the JSON key of src"),
        ({"field_type": "0"}, "field_type: found '0', allowed an element id, or PEN:id"),
        ({"field_type": "1:40000"}, "field_type: found '1:40000'"),
        ({"field_type": "4294967296:1"}, "field_type: found '4294967296:1'"),
        ({"field_type": "x"}, "field_type: found 'x'"),
        ({"len": "9"}, "len: found '9', allowed 1 to 8 for u_int"),
        ({"len": "0", "semantics": "raw"}, "len: found '0', allowed 1 to 65534 or vlen for raw"),
        ({"len": "vlen"}, "len: found 'vlen', allowed 1 to 8 for u_int"),
        ({"len": "5", "semantics": "ip"}, "len: found '5', allowed 4 or 16 for ip"),
        ({"semantics": "int"}, "semantics: found 'int', allowed u_int, hex, ip, mac, str, raw"),
    ],
)
def test_errors(values: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_primitives([row(**values)])
    assert str(caught.value).startswith(f"p.lst:7: {message}")


def test_every_key_is_required_and_names_are_used_once() -> None:
    with pytest.raises(ConfigError, match=r"p\.lst:3: row: found no len and no semantics"):
        compile_primitives([MapRow("p.lst", 3, {"name": "x", "field_type": "1"})])
    with pytest.raises(ConfigError, match="found x twice"):
        compile_primitives([row(), row()])
