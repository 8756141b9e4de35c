"""scripts/conformance: one line per case and variant."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.case import Case, CaseError, case_folders, load_case
from tests.conformance.drive import Outcome, Result, run_variant

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT.parent / "shared" / "conformance"

USAGE = """\
usage: scripts/conformance [CASE_DIR...]

Runs case folders (or folders of case folders) in the format of the conformance pack and prints
a line per case and variant: PASS, FAIL with the nearest difference, UNSUPPORTED with what is
missing, or WAIVED with the known fault of the references. Without arguments:
../shared/conformance. Exit status: 0, 1 if any failed, 2 if a folder is no case."""


def results(case: Case) -> Iterator[Result]:
    """The results of a case, variant by variant. Raises CaseError."""
    for variant in case.variants:
        try:
            yield run_variant(case, variant)
        except CaseError:
            raise
        except Exception as error:  # noqa: BLE001 (a fault in one case must not hide the others)
            yield Result(case.id, variant.id, Outcome.FAIL, f"{type(error).__name__}: {error}")


def main(arguments: list[str]) -> int:
    if any(a in ("-h", "--help") for a in arguments):
        print(USAGE)
        return 0
    try:
        folders = case_folders([Path(a) for a in arguments or [str(PACK)]])
        failed = False
        for case in map(load_case, folders):
            for result in results(case):
                print(result, flush=True)
                failed |= result.outcome is Outcome.FAIL
    except CaseError as error:
        print(f"scripts/conformance: {error}", file=sys.stderr)
        return 2
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
