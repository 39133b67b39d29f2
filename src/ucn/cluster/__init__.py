"""Ray: joining or starting it, and independent tasks on it."""
