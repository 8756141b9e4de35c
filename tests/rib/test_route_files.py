"""Files that a looking glass is given, which are not what they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowray.errors import CaptureError
from flowray.rib.route_files import read_tables


@pytest.mark.parametrize("content", [b"", b"listen: {}\n", bytes(64)])
def test_what_holds_no_routes_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tables"
    path.write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        read_tables(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
