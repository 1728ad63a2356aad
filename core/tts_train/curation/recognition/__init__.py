"""The verb ``transcribe``: what is said in the clips that have no text, heard by one or two recognisers."""
