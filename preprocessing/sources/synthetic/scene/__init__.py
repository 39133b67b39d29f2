"""What stands and moves in a synthetic world."""
