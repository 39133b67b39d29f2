"""Textures and materials of the synthetic worlds."""
