"""The archive: what came in, kept so that a replay commits the rows that the live run did."""
