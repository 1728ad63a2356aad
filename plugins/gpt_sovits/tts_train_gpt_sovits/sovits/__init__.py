"""Stage ``sovits``: semantic tokens to speech, its networks, losses and audio functions."""
