"""The evaluated methods: networks and baselines."""
