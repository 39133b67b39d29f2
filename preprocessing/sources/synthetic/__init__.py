"""Synthetic drives in KITTI raw's layout, rendered with real textures, with exact ground truth."""
