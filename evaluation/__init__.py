"""Checkpoint and shards -> metrics and pictures."""
