"""Ray actors: thin shells around engine classes, one file per kind."""
