"""The gateway as programs ask it, and what is seen when the ledger does not balance."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from actors.naming import NAMESPACE, READY_SERVICE
from cluster.live import Live, running
from cluster.topology import plan_of, with_ports
from flowray.ingest.ledger import totals
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from tests.ingest.live_rig import generated, send, wait_for

pytestmark = pytest.mark.ray

VIEWS = [
    {"name": "hosts", "keys": ["src_host"], "window": "1h"},
    {"name": "raw", "keys": ["src_host"], "sinks": ["rows"]},
]


@pytest.fixture(scope="module")
def live(ray_local: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One shard, two aggregators, a gateway."""
    path = tmp_path_factory.mktemp("gateway")
    content = {
        "listen": {"flows": ["udp://127.0.0.1:0"]},
        "views": VIEWS,
        "sinks": {"rows": {"type": "jsonl", "path": str(path / "rows")}},
        "state": {"path": str(path / "state"), "checkpoint": "500ms"},
        "cluster": {"shards": 1, "hand_over": "200ms"},
        "gateway": {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"},
    }
    settings = with_ports(parse_settings(content, "test"))
    with running(plan_of(compile_settings(settings, "test"), "test")) as one:
        one.wait_ready()
        yield one


def ask(live: Live, path: str) -> tuple[int, Any]:
    url = f"http://{live.plan.settings.gateway.http}{path}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, None


def health(live: Live, service: str) -> int:
    with grpc.insecure_channel(live.plan.settings.gateway.grpc) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
        return int(answer.status)


def test_the_gateway_says_how_all_is(live: Live) -> None:
    serving = health_pb2.HealthCheckResponse.SERVING
    wait_for(lambda: ask(live, "/healthz") == (200, {"status": "ok"}), "gateway", 60)
    ready = (200, {"ready": True, "reasons": []})
    wait_for(lambda: ask(live, "/readyz") == ready, "readiness", 60)
    assert health(live, "") == serving
    wait_for(lambda: health(live, READY_SERVICE) == serving, "readiness over gRPC")
    specs, batches, truth = generated(1)
    port = int(live.plan.settings.listen.flows[0].rpartition(":")[2])
    sent = send(port, specs, batches)

    def arrived() -> bool:
        _, ledger = ask(live, "/ledger")
        return bool(totals(ledger).get("datagrams", 0) == sent)

    wait_for(arrived, "arrival")
    _, ledger = ask(live, "/ledger")
    assert ledger["balanced"], ledger["problems"]
    code, status = ask(live, "/status")
    assert code == 200
    (shard,) = status["shards"].values()
    assert shard["drops_by_socket"] == {live.plan.settings.listen.flows[0]: 0}
    rows = wait_for(lambda: ask(live, "/top/hosts?n=3&by=flows")[1]["rows"], "rows")
    assert len(rows) == 3
    assert rows[0]["flows"] >= rows[1]["flows"] >= rows[2]["flows"] > 0
    assert ledger["views"]["hosts"]["aggregated"] == len(truth)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/top/nothing", 404),
        ("/top/raw", 404),
        ("/top/hosts?by=nothing", 404),
        ("/top/hosts?n=x", 404),
        ("/nothing", 404),
    ],
)
def test_what_is_not_there_is_told(live: Live, path: str, code: int) -> None:
    wait_for(lambda: ask(live, "/healthz")[0] == 200, "gateway", 60)
    url = f"http://{live.plan.settings.gateway.http}{path}"
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(url, timeout=30)
    assert error.value.code == code
    error.value.close()


def test_a_killed_gateway_comes_back(live: Live) -> None:
    import ray

    wait_for(lambda: ask(live, "/healthz")[0] == 200, "gateway", 60)
    ray.kill(ray.get_actor("gateway", NAMESPACE), no_restart=False)
    wait_for(lambda: live.status()["gateway"]["restarts"] >= 1, "restart", 60)
    wait_for(lambda: ask(live, "/readyz")[0] == 200, "readiness", 60)


def test_not_ready_has_reasons() -> None:
    from cluster.api import unready

    shards = {"ingest/a/0": {"state": "healthy"}, "ingest/a/1": {"state": "starting"}}
    aggregators = {"aggregate/v/0": {"state": "unhealthy", "error": "it hangs"}}
    status = {
        "shards": shards, "wanted_shards": 2, "aggregators": aggregators, "ribs": {},
        "stopping": True,
    }  # fmt: skip
    assert unready(status) == [
        "it is being stopped",
        "1 of 2 shards receive",
        "aggregate/v/0: unhealthy it hangs",
    ]


def test_every_figure_that_metrics_tell_is_there(live: Live) -> None:
    from actors.audit import Audit
    from actors.metrics import SUPERVISOR

    stop = threading.Event()
    stop.set()
    none: dict[str, Any] = {"exporters": {}, "views": {}}
    audit = Audit(list, list, list, lambda: none, list, print, stop, 2)
    gaps = {f"192.0.2.{i}": {"sequence_gap": i} for i in range(1, 5)}
    audit._note_missing({"exporters": gaps, "views": {}})
    figures = audit.figures()
    assert {m.figure for m in SUPERVISOR} <= set(figures)
    assert figures["missing"] == {"192.0.2.1": 1, "192.0.2.2": 2, "others": 7}
    assert live.status()["ledger_problems"] == []


def test_the_run_balances(live: Live) -> None:
    end = live.drain()
    assert end["problems"] == []
