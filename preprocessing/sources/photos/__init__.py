"""Pairs made from single photos."""
