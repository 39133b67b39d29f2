"""What of this machine, the cluster and the servers is in order; each probe is one function."""
