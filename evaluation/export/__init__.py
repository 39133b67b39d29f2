"""`ucn match`: matches photos, and writes the matches to files."""
