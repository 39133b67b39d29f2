"""From descriptors to matches: search, refinement, scales, filters."""
