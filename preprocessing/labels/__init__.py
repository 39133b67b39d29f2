"""Verified correspondences: visibility, motion and consistency checks."""
