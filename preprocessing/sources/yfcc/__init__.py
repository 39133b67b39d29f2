"""YFCC100M in the layout of OANet."""
