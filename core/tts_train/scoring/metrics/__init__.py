"""Metrics of synthesised speech, one module each, and the catalogue of them."""
