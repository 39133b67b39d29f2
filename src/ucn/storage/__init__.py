"""Files and objects: atomic writes, stores, the lock, array files from untrusted sources."""
