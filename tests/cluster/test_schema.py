"""docs/fields.md is generated, and the registry is what it says it is."""

from pathlib import Path

from cluster.schema import markdown, rows
from flowray.elements import element
from flowray.fields import REGISTRY

ROOT = Path(__file__).resolve().parents[2]


def test_page_is_what_the_registry_says() -> None:
    assert (ROOT / "docs" / "fields.md").read_text() == markdown(REGISTRY), (
        "run: flowray schema --markdown > docs/fields.md"
    )


def test_names_and_keys_are_unique() -> None:
    public = rows(REGISTRY)
    assert len({(r["of"], r["name"]) for r in public}) == len(public)
    assert len({(r["of"], r["key"]) for r in public}) == len(public)


def test_every_iana_element_exists() -> None:
    for field in REGISTRY.values():
        for group in field.elements:
            for e in group:
                if isinstance(e, int):
                    assert element(e) is not None, (field.name, e)
