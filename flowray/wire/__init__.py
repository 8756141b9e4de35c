"""Bytes to columns and back: pure functions over packets, no sockets and no clock."""
