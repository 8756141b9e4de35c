"""The cases of the conformance pack, where it stands beside the repository."""

import pytest

from tests.conformance.case import Case, Variant, load_case
from tests.conformance.command import PACK
from tests.conformance.drive import Outcome, run_variant
from tests.conformance.translate import missing

CASES = [load_case(file.parent) for file in sorted(PACK.glob("*/case.json"))]

PASSING = [(c, v) for c in CASES for v in c.variants if not missing(c, v)]


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    """Feeds that are repeated for minutes are left to the night."""
    return [pytest.mark.slow] if any(feed.repeat for feed in case.feeds) else []


PARTLY = {"102": ("flow_to_rd_map", {"mpls_vpn_rd", "mpls_vpn_rd_origin", "label"})}
"""Cases that need what this version lacks: what that is, and the keys that may differ for it."""


@pytest.mark.parametrize(
    ("case", "variant"),
    [pytest.param(c, v, marks=_marks(c)) for c, v in PASSING]
    or [
        pytest.param(
            None,
            None,
            marks=pytest.mark.skip(reason="../shared/conformance is no part of the repository"),
        )
    ],
    ids=[f"{c.id}-{v.id}" for c, v in PASSING] or None,
)
def test_variant(case: Case, variant: Variant) -> None:
    result = run_variant(case, variant)
    if case.id not in PARTLY:
        assert result.outcome in (Outcome.PASS, Outcome.WAIVED), str(result)
        return
    lacks, keys = PARTLY[case.id]
    assert result.outcome is Outcome.UNSUPPORTED
    assert lacks in result.detail
    assert all(set(c.keys) <= keys and c.got == c.wanted for _, c in result.differing), str(result)


@pytest.mark.skipif(not CASES, reason="../shared/conformance is no part of the repository")
def test_flow_cases_are_not_skipped() -> None:
    assert {"100", "101", "103", "104", "110", "112"} <= {c.id for c, _ in PASSING}


@pytest.mark.skipif(not CASES, reason="../shared/conformance is no part of the repository")
def test_cases_with_routes_are_not_skipped() -> None:
    routes = {"200", "202", "203", "204", "300", "302", "304", "305", "400", "500", "502"}
    assert routes <= {c.id for c, _ in PASSING}
