"""One of two processes is asked to stop; run by test_stop.py in both."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from lightning.pytorch import Callback, Trainer

from tests.core.pair import note, ranks
from tests.core.run.toy import run
from tts_train.errors import Interrupted
from tts_train.parallel.processes import leave


class Ask(Callback):
    """Signals one rank in a step, and counts how often Lightning's strategy gathers a decision."""

    def __init__(self, rank: int, step: int) -> None:
        self.rank, self.step = rank, step
        self.asked_at: list[int] = []

    def on_train_start(self, trainer: Trainer, *_: object) -> None:
        gather = trainer.strategy.reduce_boolean_decision

        def counted(*args: object, **kwargs: object) -> bool:
            self.asked_at.append(trainer.global_step)
            return gather(*args, **kwargs)

        vars(trainer.strategy)["reduce_boolean_decision"] = counted

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_rank == self.rank and trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def case(folder: Path, *, run_dir: str, rank: int, step: int, every: int) -> dict[str, object]:
    """Train with a signal and return how it ended."""
    ask = Ask(rank, step)
    settings = {"strategy": "ddp", "devices": ranks(), "max_epochs": 12, "limit_val_batches": 0, "monitor": None}
    ended = "finished"
    try:
        run(folder / run_dir, every=every, extra=[ask], **settings)
    except Interrupted as error:
        ended = str(error)
    return {"ended": ended, "asked_at": ask.asked_at}


if __name__ == "__main__":
    into = Path(sys.argv[1])
    note(into, [case(into, **json.loads(words)) for words in sys.argv[2:]])
    leave(0)
