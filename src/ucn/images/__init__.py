"""Images: reading, size limits, drawing."""
