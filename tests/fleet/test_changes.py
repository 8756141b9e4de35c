"""What differs between two configurations, and what can be taken over."""

from pathlib import Path
from typing import Any

from flowray.fleet.changes import changes, digest, folded, written
from flowray.settings.load import parse_settings
from flowray.settings.model import Settings

HOSTS = {"name": "hosts", "keys": ["src_host"], "window": "1m", "sinks": ["lake"]}
SINKS = {"lake": {"type": "jsonl", "path": "/lake"}}


def settings(*views: dict[str, Any], **sections: Any) -> Settings:
    return parse_settings({"views": list(views), "sinks": SINKS, **sections}, "f")


def test_nothing_changes() -> None:
    assert not changes(settings(HOSTS), settings(HOSTS))


def test_views_are_told_apart() -> None:
    old = settings(HOSTS, {**HOSTS, "name": "gone"}, {**HOSTS, "name": "moved"})
    new = settings(
        {**HOSTS, "filter": "proto 6"},
        {**HOSTS, "name": "new"},
        {**HOSTS, "name": "moved", "sinks": []},
    )
    found = changes(old, new)
    assert (found.added, found.removed) == (["new"], ["gone"])
    assert (found.rows, found.sinks) == (["hosts"], ["moved"])
    assert list(found.lines()) == [
        "view new: added",
        "view gone: removed",
        "view hosts: folded anew",
        "view moved: its sinks are opened anew",
    ]


def test_a_sink_that_changed_touches_the_views_that_write_there() -> None:
    other = {"lake": {"type": "jsonl", "path": "/elsewhere"}}
    found = changes(
        settings(HOSTS, {**HOSTS, "name": "dry", "sinks": []}),
        settings(HOSTS, {**HOSTS, "name": "dry", "sinks": []}, sinks=other),
    )
    assert found.sinks == ["hosts"]
    assert folded(settings(HOSTS)) == folded(settings(HOSTS, sinks=other))
    assert written(settings(HOSTS)) != written(settings(HOSTS, sinks=other))


def test_what_cannot_be_taken_over_is_refused_with_its_place() -> None:
    old = settings(HOSTS)
    found = changes(
        old,
        settings(
            HOSTS,
            listen={"flows": ["udp://127.0.0.1:9995"]},
            state={"path": "/elsewhere"},
            cluster={"hand_over": "2s", "shards": 3},
        ),
    )
    assert [line.split(":")[0] for line in found.refused] == [
        "listen.flows",
        "state.path",
        "cluster.hand_over",
    ]
    assert found.refused[1] == (
        "state.path: found /elsewhere, allowed data/state until a restart: what runs is kept there"
    )
    assert found.other == ["cluster.shards"]


def test_maps_are_read_again(tmp_path: Path) -> None:
    labels = tmp_path / "labels.map"
    labels.write_text("set_label=a ip=192.0.2.1\n")
    one = settings(HOSTS, maps={"labels": str(labels)})
    before = digest(one)
    labels.write_text("set_label=b ip=192.0.2.1\n")
    assert digest(one) != before
    assert changes(one, one).maps == ["labels"]
    found = changes(settings(HOSTS), one)
    assert (found.maps, found.other, found.refused) == ([], ["maps.labels"], [])
