"""Jobs on a Ray cluster: submit a stage, follow it, list what is there."""
