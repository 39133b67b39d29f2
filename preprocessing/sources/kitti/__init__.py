"""KITTI raw and odometry."""
