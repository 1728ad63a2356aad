"""The ``prepare`` job: recordings and texts, or an experiment folder, to a prepared set."""
