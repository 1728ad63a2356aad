"""Upstream's experiment folder (``logs/<name>``): read into rows of ours, and written from them."""

from tts_train_gpt_sovits.preparing.token_check import token_agreement
from tts_train_gpt_sovits.released.experiment.read import ExperimentRow, read_experiment
from tts_train_gpt_sovits.released.experiment.write import write_experiment, write_prepared

__all__ = ["ExperimentRow", "read_experiment", "token_agreement", "write_experiment", "write_prepared"]
