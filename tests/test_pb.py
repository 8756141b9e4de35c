"""What is generated is what scripts/gen-proto makes of proto/."""

import importlib.resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def test_generated_code_is_that_of_the_definitions(tmp_path: Path) -> None:
    definitions = sorted((ROOT / "proto").rglob("*.proto"))
    assert definitions
    include = importlib.resources.files("grpc_tools") / "_proto"
    out = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    paths = [f"--proto_path={ROOT / 'proto'}", f"--proto_path={include}"]
    assert protoc.main(["protoc", *paths, *out, *map(str, definitions)]) == 0
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.py*"))
    kept = sorted(p.relative_to(ROOT) for p in (ROOT / "flowray" / "pb").glob("*_pb2*.py*"))
    assert made == kept
    for name in made:
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), "run: scripts/gen-proto"
