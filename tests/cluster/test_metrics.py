"""docs/metrics.md is generated, and what config/grafana asks for is exported."""

import json
import re
from pathlib import Path

import pytest
import yaml

from cluster.metrics import markdown, rows

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "config" / "grafana" / "dashboards").glob("*.json"))


def test_page_is_what_the_tables_say() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == markdown(), (
        "run: flowray schema --metrics --markdown > docs/metrics.md"
    )


def test_names_are_unique_and_counters_end_as_prometheus_asks() -> None:
    names = [row["name"] for row in rows()]
    assert len(set(names)) == len(names)
    for row in rows():
        assert row["name"].endswith("_total") == (row["kind"] == "counter"), row["name"]
        assert row["description"].endswith(".")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_ask_for_what_is_exported(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    tags = {row["name"]: set(row["tags"]) for row in rows()}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    expressions = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    assert len(expressions) >= 8
    for expression in expressions:
        asked = re.findall(r"ray_flowray_\w+", expression)
        assert asked, expression
        assert set(asked) <= tags.keys(), expression
        for name in asked:
            grouped = re.findall(r"by \(([^)]*)\)", expression)
            wanted = {tag.strip() for group in grouped for tag in group.split(",")}
            wanted |= set(re.findall(r"(\w+)(?:=~|!=|!~|=)\"", expression))
            assert wanted <= tags[name] | {"NodeAddress"}, expression


def test_there_are_a_dashboard_of_health_and_one_of_traffic() -> None:
    assert [path.stem for path in DASHBOARDS] == ["flowray-health", "flowray-traffic"]
    provided = yaml.safe_load(
        (ROOT / "config" / "grafana" / "provisioning" / "dashboards.yaml").read_text()
    )
    assert provided["apiVersion"] == 1
