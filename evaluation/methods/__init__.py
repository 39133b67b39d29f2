"""What is evaluated: networks and baselines."""
