"""A tied table's gradient in a plan against real steps, and gradients that are dropped before the next forward."""

from __future__ import annotations

import lightning
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.core.memory.allocated import Allocated
from tts_train.memory.step.gradients import DropGradients
from tts_train.memory.step.step import run_steps

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
ROWS, WIDTH = 20_000, 32


class Scores(torch.autograd.Function):
    """The head's share of the gradient, as a chunked head gives it: made in forward, handed over whole."""

    @staticmethod
    def forward(ctx, states, table):
        ctx.save_for_backward(table.new_zeros(table.shape), states)
        return states.sum()

    @staticmethod
    def backward(ctx, grad):
        made, states = ctx.saved_tensors
        return torch.zeros_like(states), made.mul_(grad)


class Tied(lightning.LightningModule):
    """A table read at both ends, larger than all else."""

    def __init__(self, head: str = "handed over", rate: float = 1e-3) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, WIDTH)
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.head, self.rate = head, rate
        self.seen: list[float] = []

    def training_step(self, batch, batch_idx):
        states = torch.tanh(self.inner(self.table(batch["ids"])))
        if self.head == "handed over":
            return Scores.apply(states, self.table.weight)
        loss = F.cross_entropy(F.linear(states, self.table.weight), batch["ids"])
        self.seen.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def batch(size: int) -> dict[str, torch.Tensor]:
    return {"ids": torch.arange(size) % ROWS}


def train(module: Tied, size: int, callbacks: list[lightning.Callback], **settings) -> None:
    loader = DataLoader([batch(size)] * 4, batch_size=None, collate_fn=lambda one: one)
    run = lightning.Trainer(accelerator="cpu", max_epochs=1, callbacks=callbacks, **QUIET, **settings)
    run.fit(module, train_dataloaders=loader)


@pytest.mark.parametrize(("head", "size", "tables"), [("handed over", 16, 3), ("multiplied", 8, 3)])
def test_a_tied_table_has_as_many_gradients_as_a_real_step_makes(head, size, tables):
    heard = Allocated(1)
    train(Tied(head), size, [DropGradients(), heard])
    (step,) = run_steps(Tied(head), batch, lambda done: None if done else size, {}, device="cpu")
    table = 4 * ROWS * WIDTH
    print(f"{head}: planned {step.peak_bytes / table:.2f} tables, allocated {heard.peak_bytes / table:.2f}")
    assert step.peak_bytes == pytest.approx(heard.peak_bytes, rel=0.05)
    if head == "handed over":
        assert step.peak_bytes < (tables + 0.2) * table, "the table and two gradients"


@pytest.mark.parametrize("gathered", [1, 2, 3])
def test_dropped_gradients_change_no_result(gathered):
    torch.manual_seed(1)
    modules = [Tied("multiplied", 0.5) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    for module, callbacks in zip(modules, ([], [DropGradients()]), strict=True):
        train(module, 6, callbacks, accumulate_grad_batches=gathered)
    assert modules[0].seen == modules[1].seen
    assert modules[0].seen[-1] < modules[0].seen[0]
    assert all(torch.equal(*pair) for pair in zip(modules[0].parameters(), modules[1].parameters(), strict=True))
    assert modules[0].table.weight.grad is not None
    assert modules[1].table.weight.grad is None


def test_dropped_gradients_leave_their_room_to_the_next_forward():
    peaks = []
    for callbacks in ([], [DropGradients()]):
        heard = Allocated(1)
        train(Tied("multiplied"), 64, [*callbacks, heard])
        peaks.append(heard.peak_bytes)
    assert peaks[1] <= peaks[0]
