"""Files of prepared sets: writing shards, and reading rows from Parquet and Arrow."""
