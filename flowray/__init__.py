"""flowray: a columnar network telemetry collector, as a plain library."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("flowray")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0"
