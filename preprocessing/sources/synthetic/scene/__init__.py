"""Static and dynamic objects of a synthetic world."""
