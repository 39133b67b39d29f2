"""What is measured: pure functions on arrays, one figure a file."""
