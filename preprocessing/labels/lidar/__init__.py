"""Correspondences from LiDAR scans."""
