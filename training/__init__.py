"""Correspondence shards -> checkpoint."""
