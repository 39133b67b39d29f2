"""The `ucn` command: the rooms tied into one run."""
