"""From recordings or ids to prepared rows."""
