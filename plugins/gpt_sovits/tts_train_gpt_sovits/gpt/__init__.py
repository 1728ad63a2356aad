"""Stage 1: the transformer that turns phonemes and a spoken prompt into semantic codes."""
