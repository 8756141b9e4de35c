"""Compile every kernel by running it once on a little generated traffic; numba keeps the results on disk."""

from __future__ import annotations
