"""Sources: each knows the layout of one dataset."""
