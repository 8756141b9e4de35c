"""requirements.lock installs what pyproject.toml asks for, from any index, and nothing unhashed."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
PINS = [
    Requirement(entry.split("\\\n")[0])
    for entry in re.findall(r"^[a-zA-Z].*(?:\n    --hash.*)*", LOCK, re.MULTILINE)
]


def test_every_requirement_is_locked_to_a_version_that_serves() -> None:
    versions: dict[str, set[Version]] = {}
    for pin in PINS:
        (only,) = pin.specifier
        assert only.operator == "=="
        versions.setdefault(canonicalize_name(pin.name), set()).add(Version(only.version))
    wanted = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    for text in [*wanted, *PROJECT["build-system"]["requires"]]:
        requirement = Requirement(text)
        locked = versions.get(canonicalize_name(requirement.name), set())
        assert locked, f"{text}: run scripts/lock"
        assert all(requirement.specifier.contains(v) for v in locked), f"{text}: run scripts/lock"


def test_every_pin_has_hashes_and_no_index_is_named() -> None:
    entries = re.split(r"^(?=[a-zA-Z])", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(PINS)
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in LOCK
    assert "--index" not in LOCK
