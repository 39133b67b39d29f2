"""Rigid motion, projection, epipolar geometry, homographies, undistortion."""
