"""Live views: open windows in Redis, written and read."""
