"""The configuration: models, loading, and what it compiles to."""
