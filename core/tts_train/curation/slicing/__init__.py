"""Cuts long recordings to utterances, by pauses in the speech or by subtitles, and accounts for every sample."""
