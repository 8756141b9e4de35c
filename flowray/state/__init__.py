"""What outlives a process and a node: the state store, snapshots, outboxes of sinks."""
