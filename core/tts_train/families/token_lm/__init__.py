"""A causal language model of transformers that speaks codec tokens; a backend hands in its layout, prompt and codec."""
