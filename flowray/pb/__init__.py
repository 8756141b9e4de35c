"""Generated from proto/ by scripts/gen-proto: messages and services."""
