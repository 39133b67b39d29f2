"""What makes a match trustworthy: visibility, motion, consistency."""
