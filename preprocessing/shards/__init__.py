"""The shard format: write, index, read, verify (docs/formats.md)."""
