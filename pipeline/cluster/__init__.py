"""`ucn submit` and `ucn status`: stages as jobs of a Ray cluster."""
