"""What is wrong with a corpus, told row by row."""
