"""Simulated cameras, LiDAR and GPS/IMU."""
