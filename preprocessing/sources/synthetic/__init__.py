"""Synthetic drives in the KITTI raw layout, made from real textures, with exact truth."""
