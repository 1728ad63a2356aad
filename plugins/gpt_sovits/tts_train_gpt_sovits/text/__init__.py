"""Text to the phonemes of GPT-SoVITS's tables: normalisation, readings, ids; no torch."""

from __future__ import annotations

from tts_train_gpt_sovits.text.front_end import FrontEnd, SpokenText, TextPart
from tts_train_gpt_sovits.text.languages import LANGUAGES, detect_language, normalise_language
from tts_train_gpt_sovits.text.reading import TextRejected

__all__ = ["LANGUAGES", "FrontEnd", "SpokenText", "TextPart", "TextRejected", "detect_language", "normalise_language"]
