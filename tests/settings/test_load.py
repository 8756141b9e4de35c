"""A configuration's mistakes are one line each: file, place, found, allowed."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from flowray.errors import ConfigError
from flowray.settings.compile import compile_settings
from flowray.settings.load import load_settings, parse_settings
from flowray.settings.model import Settings, View
from flowray.sinks.opening import check_sinks

ROOT = Path(__file__).resolve().parents[2]


def test_default_file_shows_every_option_with_its_default() -> None:
    shown = load_settings(ROOT / "config" / "default.yaml")
    compile_settings(shown, "default.yaml")
    bare = Settings(views=[View(name="by_interface", keys=["peer_src_ip"])])
    for part in set(Settings.model_fields) - {"views", "sinks"}:
        assert getattr(shown, part) == getattr(bare, part), part
    differs = {"keys", "window", "sinks"}
    view, default = shown.views[0], bare.views[0]
    for option in set(View.model_fields) - differs:
        assert getattr(view, option) == getattr(default, option), option


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ([], "f: file: found [], allowed a mapping with views"),
        ({}, "f: views: found nothing, allowed this option is required"),
        (
            {"views": [{"name": "a", "keys": ["src_host"], "window": "5 parsecs"}]},
            "f: views[0].window: found '5 parsecs', allowed a number with a unit (ms, s, m, h, d),"
            " such as 5m",
        ),
        (
            {"views": [{"name": "a", "keys": ["src_hots"]}]},
            "f: views[0].keys[0]: found 'src_hots', allowed a field of `flowray schema`; did you"
            " mean src_host?",
        ),
        (
            {"views": [{"name": "a", "keys": ["src_host_country"]}]},
            "f: views[0].keys[0]: found 'src_host_country', allowed a field that this version fills"
            " (`flowray schema`)",
        ),
        (
            {"listen": {"flows": ["udp://host:x"]}, "views": [{"name": "a", "keys": ["proto"]}]},
            "f: listen.flows[0]: found 'udp://host:x', allowed udp://ADDRESS:PORT, such as"
            " udp://[::]:2055",
        ),
        (
            {"views": [{"name": "a", "keys": ["proto"]}, {"name": "a", "keys": ["tos"]}]},
            "f: views[1].name: found 'a', allowed a name that no view has yet",
        ),
        ({"views": [5]}, "f: views[0]: found 5, allowed a mapping of options"),
        (
            {"views": [{"name": "a", "keys": "proto"}]},
            "f: views[0].keys: found 'proto', allowed a list, such as [one, two]",
        ),
        ({"views": []}, "f: views: found [], allowed a list that is not empty"),
        (
            {"views": [{"name": "a", "keys": ["proto"]}], "sinks": 5},
            "f: sinks: found 5, allowed a mapping",
        ),
        ({"views": [{"name": 5}]}, "f: views[0].name: found 5, allowed text"),
        (
            {"views": [{"name": "a", "keys": ["proto"], "sinks": ["x"]}]},
            "f: views[0].sinks[0]: found 'x', allowed none: there are no sinks",
        ),
        (
            {"views": [{"name": "a", "keys": ["proto"], "window": "10ms"}]},
            "f: views[0].window: found '10ms', allowed at least 1s",
        ),
        (
            {"views": [{"name": "a", "keys": ["proto"], "window": "1000000000d"}]},
            "f: views[0].window: found '1000000000d', allowed less, such as 5m: it must fit 62"
            " bits",
        ),
        (
            {"views": [{"name": "a", "keys": ["proto"], "window": "1m", "split": True}]},
            "f: views[0].split: found true, allowed true only with a window and time: start",
        ),
        (
            {"cluster": {"shards": 0}, "views": [{"name": "a", "keys": ["proto"]}]},
            "f: cluster.shards: found 0, allowed auto, a number from 1 on, or {min: 1, max: 4}",
        ),
    ],
)
def test_mistakes(content: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_settings(parse_settings(content, "f"), "f")
    assert str(caught.value) == line


_NOTHING = "allowed nothing: a view of counters has name, of, keys, encoding and sinks"


@pytest.mark.parametrize(
    ("view", "line"),
    [
        ({"window": "5m"}, f"f: views[0].window: found '5m', {_NOTHING}"),
        ({"filter": "vlan = 1"}, f"f: views[0].filter: found 'vlan = 1', {_NOTHING}"),
        ({"sample": 10}, f"f: views[0].sample: found 10, {_NOTHING}"),
        ({"split": True}, f"f: views[0].split: found True, {_NOTHING}"),
        ({"renormalise": True}, f"f: views[0].renormalise: found True, {_NOTHING}"),
        ({"counters": ["bytes"]}, f"f: views[0].counters: found ['bytes'], {_NOTHING}"),
        ({"partitions": 2}, f"f: views[0].partitions: found 2, {_NOTHING}"),
        (
            {"encoding": {"records": "plain"}},
            "f: views[0].encoding: found {'records': 'plain'}, allowed records: rows in a view of"
            " counters",
        ),
        (
            {"keys": ["ifSpeeed"]},
            "f: views[0].keys[0]: found 'ifSpeeed', allowed a field of `flowray schema`; did you"
            " mean ifSpeed?",
        ),
        (
            {"keys": ["vlan", "src_host"]},
            "f: views[0].keys[1]: found 'src_host', allowed a field of `flowray schema`",
        ),
        (
            {"of": "flows"},
            "f: views[0].keys: found [], allowed at least one field; only a view of counters may"
            " leave keys out",
        ),
        (
            {"of": "flows", "keys": ["ifSpeed"]},
            "f: views[0].keys[0]: found 'ifSpeed', allowed a field of `flowray schema`",
        ),
        ({"of": "polls"}, "f: views[0].of: found 'polls', allowed 'flows' or 'counters'"),
    ],
)
def test_mistakes_in_views_of_counters(view: dict[str, Any], line: str) -> None:
    content = {"views": [{"name": "a", "of": "counters", **view}]}
    with pytest.raises(ConfigError) as caught:
        compile_settings(parse_settings(content, "f"), "f")
    assert str(caught.value) == line


def test_settings_of_a_view_of_counters_survive_a_copy() -> None:
    """Defaults are no options that were given."""
    settings = parse_settings({"views": [{"name": "a", "of": "counters"}]}, "f")
    copied = pickle.loads(pickle.dumps(settings))
    assert compile_settings(copied, "f").views == compile_settings(settings, "f").views


def test_unknown_option_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"views\[0\].windw: .*allowed name, of, keys, counters"):
        parse_settings({"views": [{"name": "a", "keys": ["proto"], "windw": "5m"}]}, "f")


def test_filter_errors_point_at_the_column() -> None:
    content = {"views": [{"name": "a", "keys": ["proto"], "filter": "proto = tcp and x = 1"}]}
    with pytest.raises(ConfigError, match=r"views\[0\].filter: column 17"):
        compile_settings(parse_settings(content, "f"), "f")


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "flowray.yaml"
    path.write_text("views:\n  - name: [\n")
    with pytest.raises(ConfigError, match="line 3, column 1"):
        load_settings(path)


def test_a_key_given_twice_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "flowray.yaml"
    path.write_text("state: {path: a}\nviews: []\nstate: {path: b}\n")
    with pytest.raises(ConfigError, match="line 3, column 1: found 'state' for the second time"):
        load_settings(path)


@pytest.mark.parametrize(
    ("sink", "line"),
    [
        ({"name": "{nope}.jsonl"}, r"f: sinks.x.name: found \{nope\} in .*, allowed view, window"),
        ({"name": "{window"}, "f: sinks.x.name: found .*, allowed names in braces"),
        ({"type": "parquet", "name": "all.parquet"}, "f: sinks.x.name: .* so that no file is over"),
        ({"path": "{nope}.jsonl"}, r"f: sinks.x.path: found \{nope\}"),
    ],
)
def test_file_names_are_checked_before_the_start(sink: dict[str, Any], line: str) -> None:
    content = {
        "views": [{"name": "a", "keys": ["proto"], "window": "1m", "sinks": ["x"]}],
        "sinks": {"x": {"type": "jsonl", "path": "out", **sink}},
    }
    program = compile_settings(parse_settings(content, "f"), "f")
    with pytest.raises(ConfigError, match=line):
        check_sinks(program, "f")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found nothing, allowed a configuration file"):
        load_settings(tmp_path / "none.yaml")
