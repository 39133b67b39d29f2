"""Shards to batches of augmented crops."""
