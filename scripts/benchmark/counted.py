"""What `benchmark.shard` and `benchmark.up` say when a packet is in the ledger."""

COUNTED = "counted"
LOOK_SECONDS = 0.005
