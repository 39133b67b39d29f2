"""Cameras, LiDAR and GPS/IMU of a synthetic drive."""
