"""A backend that learns which tone each letter is, so that it can hum a text."""
