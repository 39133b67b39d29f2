"""The `ucn` command."""
