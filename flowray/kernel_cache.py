"""Drops compiled kernels that are older than something they were compiled from.

numba compiles a cached kernel anew when the kernel's own file has changed. The functions and the
constants that this file imports are compiled in as well, but a change in *their* files goes unseen,
and the kernel keeps the old ones. This module finds such kernels by following imports. It runs
before kernels are compiled ahead of time (scripts/setup) and before tests use them.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


@cache
def _imports(source: Path, package: Path) -> frozenset[Path]:
    """Files of the package that a file of it names in an import, at any depth of the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    stems = [package.parent.joinpath(*name.split(".")) for name in names]
    files = [file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py")]
    return frozenset(file for file in files if package in file.parents and file.is_file())


def origins(source: Path, package: Path = PACKAGE) -> set[Path]:
    """A file of the package and all files of the package that it imports, directly or not."""
    found: set[Path] = set()
    todo = {source}
    while todo:
        file = todo.pop()
        found.add(file)
        todo |= _imports(file, package) - found
    return found


def stale(caches: Path, package: Path = PACKAGE) -> Iterator[Path]:
    """Cache indexes (.nbi) below `caches` that are older than an origin of their kernel.

    An index is named after its module alone: where modules of several packages share the name, the
    newest origin of any counts, which at worst compiles a kernel once too often.
    """
    sources: dict[str, list[Path]] = {}
    for source in package.rglob("*.py"):
        sources.setdefault(source.stem, []).append(source)
    newest: dict[str, float] = {}
    for index in caches.rglob("*.nbi"):
        stem = index.name.partition(".")[0]
        if stem not in newest:
            files = {o for source in sources.get(stem, []) for o in origins(source, package)}
            newest[stem] = max((file.stat().st_mtime for file in files), default=0.0)
        if index.stat().st_mtime < newest[stem]:
            yield index


def drop_stale(caches: Path = PACKAGE, package: Path = PACKAGE) -> int:
    """Remove stale indexes, so that numba compiles their kernels at the next call; their number."""
    indexes = list(stale(caches, package))
    for index in indexes:
        index.unlink(missing_ok=True)  # a test run beside this one may have been first
    return len(indexes)


if __name__ == "__main__":
    drop_stale()
