"""Nodes, placement and scaling: decisions as pure functions of what is measured. Knows no Ray."""
