"""Files on disk: atomic writes, file names, locks, pointers and provenance."""
