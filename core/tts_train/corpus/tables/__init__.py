"""Text tables: lines cut into fields, fields told apart."""
