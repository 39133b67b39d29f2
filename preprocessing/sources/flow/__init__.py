"""Optical-flow datasets."""
