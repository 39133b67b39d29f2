"""Stereo pairs with disparities."""
