"""Numbers with signs: found the same way in Japanese and Korean, and said with each language's own words."""
