"""Datasets with labelled keypoints."""
