"""Findings that the sound alone tells: noise, clipping, echo, another voice, the same sound twice."""
