"""Raw dataset -> correspondence shards."""
