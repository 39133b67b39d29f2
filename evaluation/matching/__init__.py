"""From descriptors to matches, and the filters of matches."""
