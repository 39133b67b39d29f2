"""Ray: starts or joins a cluster, and runs independent tasks."""
