"""Makes a corpus out of recordings, and mends one: the verbs of ``tts-train corpus``, over one folder of clips."""
