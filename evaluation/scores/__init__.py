"""Scores: pure functions on arrays, one score per file."""
