"""What is wrong with the rows of a corpus: measured clip by clip, then judged over all of them."""
