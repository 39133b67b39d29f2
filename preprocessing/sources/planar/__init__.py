"""Planar benchmarks with homographies."""
