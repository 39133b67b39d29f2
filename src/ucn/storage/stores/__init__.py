"""Where shards lie: a local folder, S3, or what else pyarrow reaches."""
