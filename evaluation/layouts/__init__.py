"""Benchmarks as they lie on disk."""
