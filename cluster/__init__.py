"""Bringing flowray up and looking at it: command line, topology, supervision."""
