"""Sound to codes and back: SNAC, and the small codec of the sample voice."""
