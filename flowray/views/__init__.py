"""Views of the traffic: filter, keyed reduction, windows, partials, checkpoints."""
