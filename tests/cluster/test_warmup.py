"""What is compiled at set-up is all that routes need."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(900)  # where nothing is compiled yet
def test_routes_compile_nothing_after_the_warm_up(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.cluster.routes_at_work", str(tmp_path)]
    root = Path(__file__).parents[2]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout == ""
