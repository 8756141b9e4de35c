"""What operators copy from config/ is well-formed, and names what there is."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.naming import READY_SERVICE
from cluster.metrics import rows
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings

CONFIG = Path(__file__).resolve().parents[2] / "config"
MANIFESTS = [
    document
    for path in sorted((CONFIG / "k8s").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [m for m in MANIFESTS if m["kind"] == kind]


def test_manifests_belong_together() -> None:
    for manifest in MANIFESTS:
        assert {"apiVersion", "kind", "metadata"} <= manifest.keys()
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "flowray"
    (cluster,) = of_kind("RayCluster")
    groups = cluster["spec"]["workerGroupSpecs"]
    pods = [cluster["spec"]["headGroupSpec"]["template"], *(g["template"] for g in groups)]
    labels = [pod["metadata"]["labels"] for pod in pods]
    for kind, path in (("Service", "selector"), ("PodDisruptionBudget", "selector")):
        for manifest in of_kind(kind):
            wanted = manifest["spec"][path]
            wanted = wanted.get("matchLabels", wanted)
            assert any(wanted.items() <= label.items() for label in labels), manifest
    maps = {m["metadata"]["name"] for m in of_kind("ConfigMap")}
    for pod in pods:
        volumes = {v["name"]: v for v in pod["spec"].get("volumes", ())}
        asked = {v["configMap"]["name"] for v in volumes.values() if "configMap" in v}
        assert asked <= maps
        for container in pod["spec"]["containers"]:
            mounts = {mount["name"] for mount in container.get("volumeMounts", ())}
            assert mounts <= volumes.keys()


def test_collectors_hear_exporters_on_their_nodes() -> None:
    (cluster,) = of_kind("RayCluster")
    (collectors,) = cluster["spec"]["workerGroupSpecs"]
    assert collectors["template"]["spec"]["hostNetwork"] is True
    assert '\\"ingest\\": 1' in collectors["rayStartParams"]["resources"]


def test_probes_ask_the_gateway_where_it_answers() -> None:
    (configured,) = of_kind("ConfigMap")
    settings = parse_settings(yaml.safe_load(configured["data"]["flowray.yaml"]), "k8s")
    compile_settings(settings, "k8s")
    (cluster,) = of_kind("RayCluster")
    containers = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    (up,) = [c for c in containers if c["name"] == "flowray"]
    ports = {port["name"]: port["containerPort"] for port in up["ports"]}
    assert settings.gateway.http.endswith(f":{ports['gateway']}")
    assert settings.gateway.grpc.endswith(f":{ports['gateway-grpc']}")
    assert up["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "gateway"}
    assert up["readinessProbe"]["grpc"] == {"port": ports["gateway-grpc"], "service": READY_SERVICE}
    assert "livenessProbe" not in up
    assert up["command"][:2] == ["flowray", "up"]


def test_ray_takes_the_cluster_of_hosts() -> None:
    path = CONFIG / "ray" / "cluster.yaml"
    # In a process of its own: Ray reads its environment when it is imported.
    program = (
        "import sys, yaml; from ray.autoscaler._private.util import *;"
        "validate_config(prepare_config(yaml.safe_load(open(sys.argv[1]))))"
    )
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=120)
    content = yaml.safe_load(path.read_text())
    assert not any("ray stop" in line for line in content["head_start_ray_commands"])


@pytest.mark.parametrize(
    "path", sorted((CONFIG / "systemd").glob("*.service")), ids=lambda p: p.name
)
def test_units_are_valid(path: Path) -> None:
    if (verify := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is missing (Debian package systemd)")
    # Beside each other, so that units find those that they need.
    done = subprocess.run(
        [verify, "verify", path], check=False, capture_output=True, text=True, cwd=path.parent
    )
    complaints = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert not [line for line in complaints if path.name in line], done.stderr


def test_alarms_and_scraping_are_valid() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is missing (Debian package prometheus)")
    prometheus = CONFIG / "prometheus"
    for what, name in (("config", "prometheus.yml"), ("rules", "flowray-alarms.yml")):
        subprocess.run([promtool, "check", what, name], check=True, cwd=prometheus)


def test_alarms_ask_for_what_is_exported() -> None:
    rules = yaml.safe_load((CONFIG / "prometheus" / "flowray-alarms.yml").read_text())
    names = {row["name"] for row in rows()}
    for rule in rules["groups"][0]["rules"]:
        asked = set(re.findall(r"ray_flowray_\w+", rule["expr"]))
        assert asked
        assert asked <= names


def test_the_image_has_what_the_package_needs() -> None:
    lines = (CONFIG / "Containerfile").read_text().splitlines()
    copied = {line.split()[1] for line in lines if re.match(r"COPY \w+ \w+$", line)}
    assert copied == {"flowray", "actors", "cluster"}
    verbs = {line.split()[0] for line in lines if re.match(r"[A-Z]+ ", line)}
    assert verbs <= {
        *("FROM", "WORKDIR", "RUN", "COPY", "LABEL", "ENV", "USER", "EXPOSE"),
        *("STOPSIGNAL", "ENTRYPOINT", "CMD"),
    }
