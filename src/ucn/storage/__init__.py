"""Files and objects: atomic writes, stores, leases, safe array formats."""
