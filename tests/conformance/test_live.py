"""Cases of the conformance pack with sessions, over real sockets in a network namespace."""

import os
from pathlib import Path

import pytest

from tests.conformance.case import Case, load_case
from tests.conformance.command import PACK
from tests.conformance.drive import Outcome, _judge
from tests.conformance.live import LiveDriver, addresses_of, in_namespace, why_not

pytestmark = pytest.mark.peers

CASES = [load_case(file.parent) for file in sorted(PACK.glob("*/case.json"))]
LIVE = [(c, v.id) for c in CASES if c.id in ("300", "302", "400") for v in c.variants]


@pytest.fixture(scope="module")
def namespaces() -> None:
    if reason := why_not():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.skipif(not CASES, reason="../shared/conformance is no part of the repository")
@pytest.mark.parametrize(("case", "name"), LIVE, ids=[f"{c.id}-{name}" for c, name in LIVE])
def test_variant(namespaces: None, tmp_path: Path, case: Case, name: str) -> None:
    variant = next(v for v in case.variants if v.id == name)

    def drive() -> LiveDriver:
        driver = LiveDriver(case, variant, tmp_path)
        driver.run()
        return driver

    outcome, detail = _judge(case, variant, in_namespace(addresses_of(case), drive))
    assert outcome is Outcome.PASS, detail
