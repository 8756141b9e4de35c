"""The field registry as text, JSON and Markdown."""

from __future__ import annotations

from typing import Any

from flowray.counters import COUNTERS
from flowray.field import Alternatives, Field
from flowray.fields import Registry


def elements_text(alternatives: Alternatives) -> str:
    """Elements of a field: `8|27` are tried together, `, then ` separates alternatives, PEN:id is
    enterprise.
    """
    return ", then ".join(
        "|".join(f"{e[0]}:{e[1]}" if isinstance(e, tuple) else str(e) for e in group)
        for group in alternatives
    )


def _row(field: Field, of: str) -> dict[str, Any]:
    return {
        "of": of,
        "name": field.name,
        "key": field.key,
        "type": field.kind.value,
        "bits": field.bits,
        "role": field.role.value,
        "merge": field.merge.value,
        "source": field.source.value,
        "elements": elements_text(field.elements),
        "decoded": field.decoded,
        "group": field.group,
        "description": field.doc,
    }


def rows(registry: Registry) -> list[dict[str, Any]]:
    """One dictionary per public field; `of` is that of the views that may name it."""
    flows = [_row(f, "flows") for f in registry.public()]
    return [*flows, *(_row(f, "counters") for f in COUNTERS.public())]


def text(registry: Registry) -> str:
    """Tables for a terminal."""
    lines = [f"{'name':22} {'JSON key':22} {'type':11} {'merge':6} {'filled':7} elements"]
    lines += [
        f"{f.name:22} {f.key:22} {f.kind.value:11} {f.merge.value:6} "
        f"{'yes' if f.decoded else 'not yet':7} {elements_text(f.elements)}".rstrip()
        for f in registry.public()
    ]
    lines += ["", f"{'of: counters':34} {'type':11} what"]
    lines += [f"{f.name:34} {f.kind.value:11} {f.doc}" for f in COUNTERS.public()]
    return "\n".join(lines)


def markdown(registry: Registry) -> str:
    """docs/fields.md."""
    lines = [
        "# Fields",
        "",
        "What views may name as keys and counters, by group. A configuration accepts both the name",
        "and the JSON key. *Elements* are IPFIX information elements: `8|27` are tried together",
        "(the first that is not zero), `, then` separates alternatives, `PEN:id` is an enterprise",
        "element. The *sFlow counters* at the end are for views with `of: counters` alone.",
        "This page is made by `flowray schema --markdown`; a test keeps it true.",
    ]
    lines += [*_sections(registry), *_sections(COUNTERS)]
    return "\n".join([*lines, ""])


def _sections(registry: Registry) -> list[str]:
    lines: list[str] = []
    group = ""
    for f in sorted(registry.public(), key=lambda f: list(_groups(registry)).index(f.group)):
        if f.group != group:
            group = f.group
            lines += [
                "",
                f"## {group.capitalize() if group.islower() else group}",
                "",
                "| name | JSON key | type | merge | elements | filled | what |",
                "|---|---|---|---|---|---|---|",
            ]
        filled = "yes" if f.decoded else "not yet"
        cell = elements_text(f.elements).replace("|", "\\|")
        lines.append(
            f"| `{f.name}` | `{f.key}` | {f.kind.value} | {f.merge.value} | {cell} | {filled} "
            f"| {f.doc} |"
        )
    return lines


def _groups(registry: Registry) -> dict[str, None]:
    return dict.fromkeys(f.group for f in registry.public())
