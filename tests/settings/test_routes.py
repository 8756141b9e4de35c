"""What a configuration says of routes, and its mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flowray.errors import ConfigError
from flowray.rib.peers import PolicyView
from flowray.settings.archive import Archive
from flowray.settings.compile import compile_settings
from flowray.settings.load import load_settings, parse_settings
from flowray.settings.model import Settings, View
from flowray.settings.routes import (
    BgpListen,
    BmpListen,
    RouteDump,
    RouteEncoding,
    RouteGroup,
    RouteLog,
    Routes,
)
from flowray.sinks.opening import check_sinks, open_sinks, open_stream

DEFAULT = Path(__file__).resolve().parents[2] / "config" / "default.yaml"
SECOND = 1_000_000_000


def commented(name: str, section: str = "") -> Any:
    """The value of an option of which the default file has every line commented out; of those of
    one name that which comes first after the line of a section.
    """
    lines = DEFAULT.read_text().splitlines()
    after = lines.index(f"{section}:") if section else 0
    found = [i for i, line in enumerate(lines) if line.lstrip().startswith(f"# {name}:")]
    begin = next(i for i in found if i > after)
    indent = len(lines[begin]) - len(lines[begin].lstrip())
    block = [lines[begin]]
    for line in lines[begin + 1 :]:
        if not line.startswith(" " * indent + "#   "):
            break
        block.append(line)
    return yaml.safe_load("\n".join(line[indent + 2 :] for line in block))[name]


def listen(**options: Any) -> dict[str, Any]:
    views = [{"name": "a", "keys": ["src_host"]}]
    return {"listen": {"bgp": {}, "bmp": {}}, "views": views, **options}


def test_default_file_shows_every_option_with_its_default() -> None:
    shown = load_settings(DEFAULT)
    assert shown.routes == Settings(views=[View(name="a", keys=["src_host"])]).routes
    raw = yaml.safe_load(DEFAULT.read_text())["routes"]
    # What has no default to show stands there commented out.
    without = set(Routes.model_fields) - set(raw)
    assert without <= {"rpki", "archive"}
    examples = {name: commented(name, "routes") for name in without}
    Routes.model_validate(examples)
    join = type(shown.routes.join).model_fields
    assert all(commented(name) for name in set(join) - set(raw["join"]))


@pytest.mark.parametrize(("name", "model"), [("bgp", BgpListen), ("bmp", BmpListen)])
def test_default_file_shows_every_option_of_listeners(name: str, model: Any) -> None:
    told = commented(name)
    assert set(told) == set(model.model_fields)
    told.pop("passwords", None)
    assert model.model_validate(told) == model()


def test_default_file_shows_every_option_of_the_archive() -> None:
    told = commented("archive", "state")
    assert set(told) == set(Archive.model_fields)
    assert Archive.model_validate(told) == Archive(path=told["path"])
    assert Settings.model_validate(listen(archive="./kept")).archive == Archive(path="./kept")


def test_default_file_shows_every_option_of_streams_and_groups() -> None:
    streams = commented("streams")
    assert set(streams) == {"bgp_log", "bmp_log", "bgp_dump", "bmp_dump"}
    assert RouteLog.model_validate({**streams["bgp_log"], "sinks": []}) == RouteLog()
    assert RouteDump.model_validate({**streams["bmp_dump"], "sinks": []}) == RouteDump()
    assert set(streams["bmp_dump"]) == set(RouteDump.model_fields)
    assert set(streams["bmp_dump"]["encoding"]) == set(RouteEncoding.model_fields)
    (group, *_) = commented("groups")
    assert set(group) == set(RouteGroup.model_fields)


def test_what_is_commented_out_can_be_taken_as_it_is() -> None:
    content = yaml.safe_load(DEFAULT.read_text())
    content["listen"] |= {"bgp": commented("bgp"), "bmp": commented("bmp")}
    content["routes"]["streams"] = commented("streams")
    program = compile_settings(parse_settings(content, "test"), "test")
    assert set(program.streams) == {"bgp_log", "bmp_log", "bgp_dump", "bmp_dump"}
    assert program.join is not None


def test_nothing_listens_and_nothing_is_joined_unless_told() -> None:
    settings = parse_settings({"views": [{"name": "a", "keys": ["src_host"]}]}, "test")
    assert (settings.listen.bgp, settings.listen.bmp, settings.route_groups) == (None, None, [])
    assert compile_settings(settings, "test").join is None


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"listen": {"bgp": {"holdtime": "3s"}}},
            "f: listen.bgp.holdtime: found an option that does not exist, allowed address, local",
        ),
        ({"listen": {"bgp": {"router_id": "1.2.3"}}}, "f: listen.bgp.router_id: found '1.2.3'"),
        ({"listen": {"bgp": {"router_id": "1.2.3.256"}}}, "f: listen.bgp.router_id: found"),
        ({"listen": {"bgp": {"hold_time": "1s"}}}, "f: listen.bgp.hold_time"),
        ({"listen": {"bgp": {"warn_prefixes": 101}}}, "f: listen.bgp.warn_prefixes: found 101"),
        ({"listen": {"bgp": {"local_as": 1 << 32}}}, "f: listen.bgp.local_as"),
        ({"listen": {"bgp": {"allow": ["192.0.2.1/x"]}}}, "f: listen.bgp.allow[0]"),
        ({"listen": {"bmp": {"address": "here"}}}, "f: listen.bmp.address: found 'here'"),
        (listen(routes={"streams": {"bgp_dump": {"every": "7m"}}}), "f: routes.streams.bgp_dump"),
        (listen(routes={"streams": {"bgp_dump": {"every": "30s"}}}), "f: routes.streams.bgp_dump"),
        (listen(routes={"streams": {"bgp_dump": {"slots": 0}}}), "f: routes.streams.bgp_dump"),
        (
            listen(routes={"streams": {"bgp_log": {"sinks": ["x"]}}}),
            "f: routes.streams.bgp_log.sinks[0]: found 'x', allowed none: there are no sinks",
        ),
        (
            {"listen": {"bmp": {}}, "routes": {"streams": {"bgp_log": {}}}},
            "f: routes.streams.bgp_log: found options, allowed none, as there is no listen.bgp",
        ),
        (
            {
                **listen(routes={"streams": {"bgp_log": {}}}),
                "views": [{"name": "bgp_log", "keys": ["src_host"]}],
            },
            "f: views[0].name: found 'bgp_log', allowed a name that no stream of routes has",
        ),
        (listen(routes={"join": {"views": ["post"]}}), "f: routes.join.views[0]: found 'post'"),
        (listen(routes={"snapshot": "10ms"}), "f: routes.snapshot"),
        (listen(routes={"next_hops": "mine"}), "f: routes.next_hops: found 'mine'"),
    ],
)
def test_mistakes(content: dict[str, Any], line: str) -> None:
    views = [{"name": "a", "keys": ["src_host"]}]
    with pytest.raises(ConfigError) as error:
        parse_settings({"views": views, **content}, "f")
    said = str(error.value)
    assert said.startswith(line)
    assert "\n" not in said


def test_policy_views_by_name() -> None:
    join = {"views": ["loc-rib", "adj-rib-out-pre"]}
    settings = parse_settings(listen(routes={"join": join}), "test")
    views = settings.routes.join.policy_views
    assert views == (PolicyView.LOC_RIB, PolicyView.ADJ_RIB_OUT_PRE)


def test_a_sink_of_views_and_streams_must_keep_them_apart(tmp_path: Path) -> None:
    content = {
        **listen(routes={"streams": {"bgp_log": {"sinks": ["lake"]}}}),
        "views": [{"name": "a", "keys": ["src_host"], "sinks": ["lake"]}],
        "sinks": {"lake": {"type": "parquet", "path": str(tmp_path), "name": "{sequence}"}},
    }
    program = compile_settings(parse_settings(content, "test"), "test")
    with pytest.raises(ConfigError, match="view"):
        open_sinks(program, "a")
    with pytest.raises(ConfigError, match="view"):
        open_stream(program, "bgp_log")


def test_sinks_of_streams_are_checked_before_the_start(tmp_path: Path) -> None:
    content = {
        **listen(routes={"streams": {"bgp_dump": {"sinks": ["lake"]}}}),
        "sinks": {"lake": {"type": "parquet", "path": str(tmp_path), "name": "{window:%Y}"}},
    }
    program = compile_settings(parse_settings(content, "test"), "test")
    with pytest.raises(ConfigError, match=r"^test: sinks\.lake\.name"):
        check_sinks(program, "test")
