"""Hears a recording in a stream: where speech is, how loud each moment is, and where words begin and end."""
