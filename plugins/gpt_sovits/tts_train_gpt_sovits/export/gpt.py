"""Export ``s1``: a GPT file for ``GPT_weights*``."""

from __future__ import annotations

from dataclasses import dataclass

from tts_train.contract import ExportJob, ExportReport

_COUNTED, _DRAWN = 50, 25
"""Codes a second by which upstream's inference reads ``max_sec``, and those that it draws."""
_USUAL, _LIMIT = 54, 60
"""``max_sec`` in upstream's own files, and the seconds that it speaks at most whatever they say."""


@dataclass(kw_only=True)
class S1Export(ExportJob):
    """Write ``NAME-eEPOCH.ckpt`` in half precision, which upstream's inference loads and its training starts from.

    Adapters are merged first.
    """

    max_sec: float | None = None
    """Seconds after which upstream's inference cuts a sentence off; none says what upstream's own files say, with which
    it goes on to its limit of 60."""

    def run(self) -> ExportReport:
        """Write the file, read it back and compare.

        Raises:
            ConfigError: if ``max_sec`` is no length of speech.
        """
        from tts_train.contract import ConfigError, open_checkpoint
        from tts_train_gpt_sovits.export.target import find_target, voice_name
        from tts_train_gpt_sovits.released import s1_config, write_s1
        from tts_train_gpt_sovits.released.gpt_names import config_to_upstream, to_upstream
        from tts_train_gpt_sovits.starts.gpt import load_run

        if self.max_sec is not None and not 0 < self.max_sec <= _LIMIT:
            raise ConfigError(f"--max_sec must be above 0 and at most {_LIMIT}, and {self.max_sec:g} was given.")
        checkpoint = open_checkpoint(self.source)
        epoch = int(checkpoint.state("epoch")["epoch"]) + 1
        target = find_target(self.out, f"{voice_name(self.source)}-e{epoch}.ckpt")
        network = load_run(checkpoint)
        told = _USUAL if self.max_sec is None else self.max_sec * _DRAWN / _COUNTED
        config = s1_config(config_to_upstream(network.config), max_sec=told)
        write_s1(target.path, to_upstream(network.state_dict()), config=config, info=f"GPT-e{epoch}")
        target.sign(checkpoint, "s1")
        files = [target.path.name]
        return ExportReport(format="s1", path=str(target.path), files=files, verified=True, step=checkpoint.step)
