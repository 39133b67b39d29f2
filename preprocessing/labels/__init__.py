"""Verified correspondences: visibility, motion, consistency."""
