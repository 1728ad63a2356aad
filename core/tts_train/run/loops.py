"""Lightning's loop counters: the only module that knows them.

A checkpoint is continued exactly only if its counters describe a point at which Lightning itself can start again.
Lightning 2.6 knows several such points; :func:`describe_boundary` says which of them a checkpoint is, whenever in the
hooks it was really written:

* between two batches: the counters as they are in ``on_train_batch_end``; Lightning finishes that batch's counting;
* before a validation that is due: as if the validation had been cut off before its first batch; it is run again;
* after a validation: as in ``on_validation_end``; it is not run again;
* after an epoch's last batch without validation: the loader has nothing left, and the epoch's end follows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from lightning.pytorch import Trainer

logger = logging.getLogger(__name__)


class Validation(Enum):
    """Where a checkpoint stands towards the validation of its step."""

    NONE = "none"
    DUE = "due"
    DONE = "done"


def position(trainer: Trainer) -> tuple[int, int]:
    """Return (epoch, batches of it that are done) from which the next training iterator must go on."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    # Lightning raises ready when an epoch begins and processed when it ends.
    if epochs.ready == epochs.processed:  # between epochs, also before the first
        return int(epochs.processed), 0
    return int(epochs.processed), trainer.fit_loop.epoch_loop.batch_progress.current.ready


def mid_accumulation(trainer: Trainer) -> bool:
    """Tell whether gradients of earlier batches wait for the optimiser: nothing can be saved then."""
    return bool(trainer.fit_loop._should_accumulate())


def validation_due(trainer: Trainer) -> bool:
    """Tell, in ``on_train_batch_end``, whether a validation follows."""
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and bool(trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher))


def logs_now(trainer: Trainer) -> bool:
    """Tell, during a batch and in ``on_train_batch_end``, whether Lightning reads and logs the figures of its step."""
    return bool(trainer._logger_connector.should_update_logs)


def is_last_step(trainer: Trainer) -> bool:
    """Tell, in ``on_train_batch_end``, whether the limits of the run end it after this step."""
    loop = trainer.fit_loop
    # Lightning's -1 is no limit.
    if 0 <= loop.max_steps <= trainer.global_step:
        return True
    if loop.max_epochs is None or loop.max_epochs == -1:
        return False
    # + 1: this epoch is counted only when it ends.
    return loop.epoch_loop._num_ready_batches_reached() and trainer.current_epoch + 1 >= loop.max_epochs


def refetch(trainer: Trainer) -> None:
    """Start the training iterator anew, from :func:`position`."""
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None, "refetch() belongs after Lightning has set up the loader"
    iter(fetcher)


def count_restart_as_done(trainer: Trainer) -> None:
    """Let schedules that follow a metric take their step at the end of the epoch in which a run was continued.

    Lightning leaves that step out, because it does not restore metrics; the checkpoint callback does.
    """
    trainer.fit_loop._restarting = False


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Let a KeyboardInterrupt of the block out of it, of which Lightning's trainers make an exit with code 1."""
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None
        raise


def leave_signals_alone(trainer: Trainer) -> None:
    """Keep Lightning from handling SIGTERM, which it only notes until the loops of a fit ask for it.

    For a trainer that saves nothing: a signal ends the process at once, as it does anywhere else.
    """
    signals: Any = trainer._signal_connector
    signals.register_signal_handlers = lambda: None


def disable_sigterm_broadcast(trainer: Trainer) -> None:
    """Keep Lightning from asking all processes before each batch whether its own handler has seen SIGTERM.

    That handler is replaced, and a card would be waited for at each answer.
    """
    loop: Any = trainer.fit_loop.epoch_loop
    loop._broadcast_sigterm_tensor = lambda: None


def describe_boundary(checkpoint: dict[str, Any], trainer: Trainer, validation: Validation, *, ended: bool) -> None:
    """Make a checkpoint's loop counters say at which boundary it stands.

    Args:
        checkpoint: Lightning's checkpoint; its ``loops`` are changed.
        trainer: the trainer that wrote it, during ``fit``.
        validation: whether a validation follows or has been.
        ended: whether the epoch's end has been counted already (``on_train_end``).
    """
    loops = checkpoint["loops"]["fit_loop"]
    counted = 0 if ended else 1  # this batch is counted as one that stepped only after the hooks
    stepped = loops["epoch_loop.state_dict"]["_batches_that_stepped"] + counted
    batches = loops["epoch_loop.batch_progress"]
    last = trainer.fit_loop.epoch_loop._num_ready_batches_reached()
    between = validation is Validation.NONE and not last
    for scope in ("total", "current"):
        ready = batches[scope]["ready"]
        batches[scope].update(started=ready, processed=ready, completed=ready - 1 if between else ready)
        epochs = loops["epoch_progress"][scope]
        epochs.update(started=epochs["ready"], processed=epochs["ready"] - 1, completed=epochs["ready"] - 1)
    rest_runs_again = not (validation is Validation.NONE and last)
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = stepped - 1 if rest_runs_again else stepped
    begun = 1 if validation is Validation.DUE else 0
    nothing = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
    loops["epoch_loop.val_loop.batch_progress"].update(
        current=dict(nothing), total={**nothing, "ready": begun, "started": begun}, is_last_batch=False
    )


def share_batches(checkpoint: dict[str, Any], *, before: int, now: int) -> None:
    """Make a checkpoint's loop counters, which count each process's batches, fit another number of processes.

    An epoch's batches are dealt out in turn, so ``before`` x counted batches of it are done. Where ``now`` does not
    divide that, the batches beyond the last whole turn are seen again.

    Args:
        checkpoint: Lightning's; its ``loops`` are changed.
        before: processes that wrote it.
        now: processes that go on.
    """
    if before == now:
        return
    counters = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for scope in ("total", "current"):
        finished = counters[scope]["ready"] - counters[scope]["completed"]
        # Rounded down: a batch that is seen twice costs less than one that is never seen.
        ready = counters[scope]["ready"] * before // now
        counters[scope].update(ready=ready, started=ready, processed=ready, completed=ready - finished)
    logger.info("Continuing with %d processes what %d began, at the same batch of the epoch.", now, before)
