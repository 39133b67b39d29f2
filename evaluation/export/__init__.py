"""`ucn match`: photographs to matches, and the files that matches are kept in."""
