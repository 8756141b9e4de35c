"""Flow protocols: NetFlow v5, v9, IPFIX and sFlow as bytes, and sampled packet headers."""
