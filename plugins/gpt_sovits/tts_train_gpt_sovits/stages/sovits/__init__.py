"""Stages ``sovits`` and ``cfm``: data, training loops and schedule."""
