"""Prepared data sets: shards on disk, and the plan by which batches are drawn from them."""
