"""Upstream's files: told apart, read safely, written so that upstream reads them."""

from tts_train_gpt_sovits.released.bases import s1_config, s2_config
from tts_train_gpt_sovits.released.read import TrainingFile, WeightsFile, read_s1, read_s2, read_training
from tts_train_gpt_sovits.released.recognise import Recognised, recognise
from tts_train_gpt_sovits.released.write import write_critics, write_full, write_s1, write_s2

__all__ = [
    "Recognised",
    "TrainingFile",
    "WeightsFile",
    "read_s1",
    "read_s2",
    "read_training",
    "recognise",
    "s1_config",
    "s2_config",
    "write_critics",
    "write_full",
    "write_s1",
    "write_s2",
]
