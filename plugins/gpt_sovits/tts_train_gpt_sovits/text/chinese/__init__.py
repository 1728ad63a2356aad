"""Chinese: normalised Han, pinyin with tone sandhi, and upstream's initials and finals."""
