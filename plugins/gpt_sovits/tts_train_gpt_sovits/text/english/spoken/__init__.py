"""How numbers, signs and abbreviations are said: rules that give words for what begins at one place of a text."""
