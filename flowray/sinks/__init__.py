"""Where the rows of views go: one module per sink, one small protocol."""
