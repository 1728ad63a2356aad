"""Korean: normalised Hangul, the standard pronunciation rules, and jamo."""
