"""Object storage: addresses such as `s3://bucket/run`, their local copies, runs and versions there."""
