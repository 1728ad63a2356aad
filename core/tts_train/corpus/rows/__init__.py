"""Rows of a corpus: columns, audio paths, segments and texts to utterances."""
