"""Text against sound: what a row says, held against what is heard, and against what the rows around it say."""
