"""Does a stage's training teach what the stage generates? Measured by its :class:`~tts_train.contract.probe.Probe`.

``check_backend`` asks it of every stage; a test of one's own can ask it of a module and its data alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.configuration.settings import requested
from tts_train.contract.probe import NoProbe, Probe, Said, SpeechProbe
from tts_train.environment import quiet
from tts_train.run.checkpoint import open_checkpoint
from tts_train.run.loops import leave_signals_alone
from tts_train.training.parser import TrainingParser

if TYPE_CHECKING:
    from torch import Tensor

    from tts_train.contract.data import StageData
    from tts_train.contract.module import StageModule

LENGTHS = (3, 5, 9)
"""Frames of the utterances that are said."""
TOLERANCE = 1e-5
"""Largest difference of two log-probabilities of a token that counts as rounding of float32, relative to their mean."""
_NAMED = 3
_END = 1_000_000
"""Where a fit would end, for schedules that must know."""


def check_training(
    stage: str, module: StageModule, data: StageData, *, checkpoint: Path | None = None, runs_in: Path | None = None
) -> None:
    """Assert that a stage's training step teaches what the stage generates, in float32 on the CPU.

    A stage that draws tokens samples utterances; their loss must be the log-probability that they were drawn with, the
    stop's included. For every stage each trainable tensor must get a gradient, and an utterance's loss must be the same
    alone and among others, in every form of batch.

    Args:
        stage: Its name, for messages.
        module: Freshly made; it is not to be used afterwards.
        data: Its data.
        checkpoint: The weights to measure; None for those that the module starts from.
        runs_in: Folder for what a trainer writes; None for the present one.

    Raises:
        AssertionError: saying what is not so.
    """
    probed = _Probed(stage)
    with quiet():
        trainer = _trainer(probed, runs_in)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    assert probed.done, f"stage {stage!r} has no training batch, so that nothing was measured"


def check_run(stage: str, run: Path, exports: Sequence[Path] = ()) -> None:
    """Assert of a run what :func:`check_training` and :func:`check_export` do, with the weights of its last step.

    Args:
        stage: The stage's name, for messages.
        run: The run directory.
        exports: What was exported of it.

    Raises:
        AssertionError: saying what is not so.
    """
    chosen, selection = requested("fit", run, None, {})
    made = TrainingParser("fit", chosen, selection.rest)
    check_training(stage, made.model, made.datamodule, checkpoint=open_checkpoint(run).path, runs_in=run)
    for export in exports:
        check_export(stage, made.model, made.datamodule, run=run, export=export)


def check_export(stage: str, module: StageModule, data: StageData, *, run: Path, export: Path) -> None:
    """Assert that an export says what its run says, where the stage draws tokens.

    Args:
        stage: Its name, for messages.
        module: Of the stage; its weights are not used.
        data: Its data.
        run: The run directory.
        export: What was exported of it.

    Raises:
        AssertionError: naming the first token that differs.
    """
    probe = _stated(stage, module, data)
    found = probe.greedy(run, export) if isinstance(probe, SpeechProbe) else NoProbe(why="it draws no tokens")
    if isinstance(found, NoProbe):
        return
    expected, given = (list(tokens) for tokens in found)
    assert expected, f"stage {stage!r}: the run {run} says nothing, so that {export.name} cannot be compared with it"
    differ = [place for place, pair in enumerate(zip(expected, given, strict=False)) if pair[0] != pair[1]]
    place = differ[0] if differ else min(len(expected), len(given))
    assert expected == given, (
        f"stage {stage!r}: the export {export.name} does not say what its run says: their likeliest tokens differ from "
        f"number {place + 1} on ({_from(expected, place)} and {_from(given, place)})"
    )


def _trainer(probed: Callback, runs_in: Path | None) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=_END,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        default_root_dir=runs_in,
        callbacks=[probed],
        # Checkpoints are directories here, which Lightning's own reader does not know.
        plugins=[DirectoryCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    leave_signals_alone(trainer)
    return trainer


class _Probed(Callback):
    """Measures before the first batch of a fit, where everything is as in training, and then ends it."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self.done = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Measure."""
        if not self.done:
            self.done = trainer.should_stop = True
            module: Any = pl_module
            probe = _stated(self._stage, module, module.stage_data)
            if isinstance(probe, Probe):
                with probe.still():
                    _measure(self._stage, probe)


def _stated(stage: str, module: StageModule, data: StageData) -> Probe | NoProbe:
    probe = module.probe(data)
    assert probe is not None, (
        f"stage {stage!r} states nothing of its training that could be measured: let {type(module).__name__}.probe "
        "return a Probe, or NoProbe with the reason; see docs/writing-a-backend.md"
    )
    return probe


def _measure(stage: str, probe: Probe) -> None:
    if isinstance(probe, SpeechProbe):
        said = probe.say(LENGTHS)
        for each in said:
            _check_said(stage, probe, each, said)
    rows = probe.rows()
    _check_company(stage, probe, rows)
    _check_gradients(stage, probe, rows)


def _check_said(stage: str, probe: SpeechProbe, said: Said, all_said: Sequence[Said]) -> None:
    """The loss of what was sampled is the log-probability that it was drawn with."""
    drawn = _drawn(said)
    assert torch.isfinite(drawn).all(), f"stage {stage!r} gave a token that it drew itself a probability of 0"
    for form, batch in probe.batches([said.row]).items():
        loss = _loss(probe, batch)
        if not _same(loss, float(-drawn.sum()), len(drawn)):
            raise AssertionError(f"stage {stage!r}, {form}: {_why(probe, form, loss, said, all_said)}")


def _why(probe: SpeechProbe, form: str, loss: float, said: Said, all_said: Sequence[Said]) -> str:
    """Return in a sentence what the loss of a sampled utterance is instead of its log-probability."""
    drawn = _drawn(said)
    total, stop, count = float(-drawn.sum()), float(-drawn[-1]), len(drawn)
    if _same(loss, total - stop, count):
        return (
            f"the stop is not taught: the loss of an utterance that the stage drew lacks the {stop:.4g} nats of its "
            "end, so that a trained model would never end its speech"
        )
    # What one utterance has beyond the start that it shares with another: places before the first draw cancel out.
    shorter, longer = min(all_said, key=lambda each: len(each.tokens)), max(all_said, key=lambda each: len(each.tokens))
    losses = [_loss(probe, probe.batches([each.row])[form]) for each in (shorter, longer)]
    ahead = [-float(_ahead(each).sum()) for each in (shorter, longer)]
    if len(shorter.tokens) < len(longer.tokens) and _same(losses[1] - losses[0], ahead[1] - ahead[0], count):
        return (
            "the loss is shifted twice by one: at each place it scores the token after the one that generation draws "
            "there (t+2 for t+1), as where data and loss both shift the targets; shift them in one place only"
        )
    return (
        f"the loss of an utterance of {count} tokens that the stage drew is {loss:.7g} nats, and it was drawn with "
        f"{total:.7g}: training and generation do not compute the same distribution, or not over the same tokens"
    )


def _check_company(stage: str, probe: Probe, rows: Sequence[Any]) -> None:
    """An utterance's loss does not depend on what else is in its batch, nor on the form of the batch."""
    alone = {form: [_loss(probe, batch) for batch in each] for form, each in _each_alone(probe, rows).items()}
    together = probe.batches(rows)
    first = next(iter(alone))
    for form, batch in together.items():
        expected, given = sum(alone[form]), _loss(probe, batch)
        assert _same(given, expected, probe.weight(batch), probe.rounding), (
            f"stage {stage!r}, {form}: the rest of a batch changes an utterance's loss: {len(rows)} utterances have "
            f"{given:.7g} together and {expected:.7g} one at a time; look at masks, padding and the mean"
        )
        assert _same(expected, sum(alone[first]), probe.weight(batch), probe.rounding), (
            f"stage {stage!r}: the same utterances have a loss of {expected:.7g} in the form {form!r} and of "
            f"{sum(alone[first]):.7g} in the form {first!r}"
        )


def _each_alone(probe: Probe, rows: Sequence[Any]) -> Mapping[str, list[Any]]:
    apart = [probe.batches([row]) for row in rows]
    return {form: [batches[form] for batches in apart] for form in apart[0]}


def _check_gradients(stage: str, probe: Probe, rows: Sequence[Any]) -> None:
    """Every trainable tensor gets a gradient that is not zero."""
    module = probe.module
    trained = {name: each for name, each in module.named_parameters() if each.requires_grad}
    assert trained, f"stage {stage!r} trains no tensor"
    reached: set[str] = set()

    def note(name: str, parameter: Tensor) -> None:
        if parameter.grad is not None and bool(parameter.grad.count_nonzero()):
            reached.add(name)

    # While they arise: a stage that optimises by hand may have cleared them when its step returns.
    hooks = [
        each.register_post_accumulate_grad_hook(lambda parameter, name=name: note(name, parameter))  # type: ignore[no-untyped-call]
        for name, each in trained.items()
    ]
    module.zero_grad()
    probe.step(next(iter(probe.batches(rows).values())))
    module.zero_grad()
    for hook in hooks:
        hook.remove()
    missing = [name for name in trained if name not in reached and not name.startswith(tuple(probe.without_gradient))]
    assert not missing, (
        f"stage {stage!r}: no gradient reaches {len(missing)} of {len(trained)} trainable tensors, such as "
        f"{', '.join(missing[:_NAMED])}: the loss does not depend on them, so they are never trained; freeze them, or "
        "let the loss of training_step reach them"
    )


def _loss(probe: Probe, batch: Any) -> float:  # noqa: ANN401 - a batch is whatever the network takes
    return float(probe.total(batch).detach())


def _drawn(said: Said) -> Tensor:
    """Return the log-probability of each token drawn."""
    # double, so that adding them up brings no rounding of its own.
    return said.scores.double().gather(1, said.tokens[:, None])[:, 0]


def _ahead(said: Said) -> Tensor:
    """Return at each draw the log-probability of the token that was drawn after it."""
    return said.scores[:-1].double().gather(1, said.tokens[1:, None])[:, 0]


def _same(one: float, other: float, count: float, tolerance: float = TOLERANCE) -> bool:
    """Tell whether two sums over ``count`` tokens differ by rounding at most."""
    return abs(one - other) <= tolerance * max(abs(one), abs(other), count)


def _from(tokens: Sequence[int], place: int) -> str:
    return f"{', '.join(map(str, tokens[place : place + _NAMED]))}…" if tokens[place:] else "nothing more"
