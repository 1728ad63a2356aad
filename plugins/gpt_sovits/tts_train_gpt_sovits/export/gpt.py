"""Export ``s1``: a GPT file for ``GPT_weights*``."""

from __future__ import annotations

from dataclasses import dataclass

from tts_train.jobs import ExportJob, Report


@dataclass(kw_only=True)
class S1Export(ExportJob):
    """Write ``NAME-eEPOCH.ckpt`` in half precision, which upstream's inference loads and its training starts from.

    Adapters are merged first.
    """

    max_sec: float = 54.0
    """Longest utterance in seconds; upstream stops speaking there."""

    def run(self) -> Report:
        """Write the file, read it back and compare."""
        from tts_train.run.checkpoint import open_checkpoint
        from tts_train_gpt_sovits.export.target import find_target, voice_name
        from tts_train_gpt_sovits.files import s1_config, write_s1
        from tts_train_gpt_sovits.gpt.names import config_to_upstream, to_upstream
        from tts_train_gpt_sovits.gpt.restore import load_run

        checkpoint = open_checkpoint(self.source)
        epoch = int(checkpoint.state("epoch")["epoch"]) + 1
        target = find_target(self.out, f"{voice_name(self.source)}-e{epoch}.ckpt")
        network = load_run(checkpoint)
        config = s1_config(config_to_upstream(network.config), max_sec=self.max_sec)
        write_s1(target.path, to_upstream(network.state_dict()), config=config, info=f"GPT-e{epoch}")
        target.sign(checkpoint, "s1")
        files = [target.path.name]
        return {"format": "s1", "path": str(target.path), "files": files, "verified": True, "step": checkpoint.step}
