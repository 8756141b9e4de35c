import os
from pathlib import Path

import pytest

from flowray.kernel_cache import drop_stale, origins


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Three modules in a chain of imports, a cycle at its end, and one module beside it."""
    package = tmp_path / "engine"
    (package / "wire").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "constants": "import os\nfrom engine.wire import kernels\n",
        "hashing": "from engine.constants import SEED\n",
        "alone": "import numpy\n",
        "wire/__init__": "",
        "wire/kernels": "from engine import hashing\n",
    }.items():
        (package / name).with_suffix(".py").write_text(text)
    return package


def _cached(package: Path, module: str) -> Path:
    index = package / "__pycache__" / f"{module}.f-12.py311.nbi"
    index.parent.mkdir(exist_ok=True)
    index.write_bytes(b"")
    return index


def test_origins_follow_imports_of_names_and_of_modules(package: Path) -> None:
    found = {file.stem for file in origins(package / "wire" / "kernels.py", package)}
    assert found >= {"kernels", "hashing", "constants"}
    assert "alone" not in found


def test_a_changed_import_drops_the_kernels_built_on_it_and_no_others(package: Path) -> None:
    built, beside = _cached(package, "kernels"), _cached(package, "alone")
    assert drop_stale(package, package) == 0
    later = built.stat().st_mtime + 10
    os.utime(package / "constants.py", (later, later))
    assert drop_stale(package, package) == 1
    assert not built.exists()
    assert beside.exists()


def test_no_cache_yet_is_no_error(package: Path) -> None:
    assert drop_stale(package / "missing", package) == 0
