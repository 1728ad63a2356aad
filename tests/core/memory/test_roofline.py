"""What operators move and compute, by the rule that plans and ``benchmarks/roofline.py`` count with."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from tts_train.errors import ConfigError
from tts_train.memory.cards import card_named
from tts_train.memory.step.ledger import (
    HOST_BUS,
    KERNEL_SECONDS,
    KINDS_OF_WORK,
    LAUNCH_SECONDS,
    MISALIGNED_SHARE,
    SLOW_LAUNCH_SECONDS,
    WAIT_SECONDS,
    StepLedger,
    estimate,
    kernel_seconds,
)
from tts_train.memory.step.shapes import Shapes
from tts_train.memory.step.tracker import PeakTracker
from tts_train.memory.step.traffic import Traffic, traffic
from tts_train.nn.kernels.choice import left_out

H100 = card_named("H100")


class Heard(TorchDispatchMode):
    """Costs of the operators that run within it."""

    def __init__(self):
        super().__init__()
        self.costs: list[Traffic] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.costs.append(traffic(func, args, kwargs or {}, out))
        return out


def cost_of(call) -> Traffic:
    with Heard() as heard:
        call()
    real = [cost for cost in heard.costs if cost.launches or cost.waits]
    assert len(real) <= 1
    return real[0] if real else Traffic("none", 0)


def test_a_product_reads_both_matrices_and_writes_one():
    a, b = torch.randn(64, 32, dtype=torch.bfloat16), torch.randn(16, 32, dtype=torch.bfloat16)
    cost = cost_of(lambda: a @ b.T)
    assert cost == Traffic("aten::mm", 2 * (64 * 32 + 16 * 32 + 64 * 16), 2 * 64 * 32 * 16, launches=1)
    total = torch.zeros(64, 16, dtype=torch.bfloat16)
    added = cost_of(lambda: total.addmm_(a, b.T))
    assert (added.bytes, added.flops) == (cost.bytes + 2 * 64 * 16, cost.flops), "what it adds to is read and written"


def test_rows_that_are_no_multiple_of_16_bytes_are_slow():
    states = torch.randn(64, 32, dtype=torch.bfloat16)
    odd, even = (torch.randn(rows, 32, dtype=torch.bfloat16) for rows in (588, 592))
    slow, fast = (cost_of(lambda matrix=matrix: states @ matrix.T) for matrix in (odd, even))
    assert slow.misaligned
    assert not fast.misaligned
    padded = torch.empty(64, 592, dtype=torch.bfloat16)[:, :588]
    assert not cost_of(lambda: torch.mm(states, odd.T, out=padded)).misaligned, "the rows' distance counts"
    assert not cost_of(lambda: padded @ odd).misaligned
    big = Traffic("aten::mm", 0, 10**13, launches=1)
    assert kernel_seconds(big, H100) == pytest.approx(10**13 / 650e12, rel=0.01)
    crooked = Traffic("aten::mm", 0, 10**13, launches=1, misaligned=True)
    assert kernel_seconds(crooked, H100) * MISALIGNED_SHARE == pytest.approx(kernel_seconds(big, H100))


def test_in_place_is_read_and_written():
    one, other = torch.zeros(100), torch.ones(100)
    assert cost_of(lambda: one.add_(other)) == Traffic("aten::add_", 1200, launches=1)
    assert cost_of(lambda: one.add_(one)).bytes == 800, "the same tensor twice is read once"
    assert cost_of(lambda: one.copy_(other)).bytes == cost_of(lambda: one.zero_()).bytes * 2 == 800
    assert cost_of(lambda: torch.mul(one, 2, out=other)).bytes == 800


def test_views_are_free_and_count_as_they_are_seen():
    table = torch.zeros(100, 8)
    assert cost_of(lambda: table.T[3:5].detach()) == Traffic("none", 0)
    assert cost_of(lambda: torch.empty(1000)) == Traffic("none", 0)
    assert cost_of(lambda: table[:, :4] + 1).bytes == 2 * 100 * 4 * 4
    assert cost_of(lambda: table[:1].expand(100, 8) + 1).bytes == 4 * (8 + 100 * 8), "one row is read"
    assert cost_of(lambda: torch.zeros_like(table)).bytes == table.nbytes, "a shape is not read"


def test_rows_that_are_looked_up():
    table, ids, rows = torch.zeros(1000, 8), torch.tensor([1, 5, 7]), torch.ones(3, 8)
    assert cost_of(lambda: F.embedding(ids, table)).bytes == 2 * 3 * 8 * 4 + 3 * 8
    assert cost_of(lambda: table.index_add_(0, ids, rows)).bytes == 3 * 8 + 3 * 3 * 8 * 4


def test_many_tensors_are_stepped_by_few_kernels():
    tensors = [torch.ones(10) for _ in range(72)]
    with Heard() as heard:
        torch._foreach_mul_(tensors, 2.0)
    assert (heard.costs[0].launches, heard.costs[0].bytes) == (2, 72 * 80)


def test_a_custom_operator_is_one_kernel():
    given, made = torch.zeros(50), torch.zeros(50)

    @torch.library.custom_op("tts_train_test::half", mutates_args=("made",))
    def half(given: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        made.copy_(given / 2)
        return given * 2

    assert cost_of(lambda: half(given, made)) == Traffic("tts_train_test::half", 50 * 4 * 4, launches=1)
    stand_in = cost_of(lambda: left_out("library::kernel", [given], [made], 77))
    assert stand_in == Traffic("library::kernel", 400, 77, launches=1)


def test_values_that_the_host_waits_for():
    values = torch.tensor([1.0, 0.0, 2.0])
    first, mask, places = values[0], torch.tensor([True, False, True]), torch.tensor([0, 2])
    assert cost_of(lambda: first.item()).waits == 1
    assert cost_of(lambda: values.nonzero()).waits == 1
    assert cost_of(lambda: values[mask]).waits == 1
    assert cost_of(lambda: values[places]).waits == 0


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.RMSNorm(64), nn.Linear(64, 64, bias=False)

    def forward(self, states):
        return states + self.linear(self.norm(states)).relu()


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.head = Block(), nn.Linear(64, 1000, bias=False)

    def forward(self, states):
        return self.head(checkpoint(self.block, states, use_reentrant=False))


def test_kinds_of_work_and_that_they_are_all_there_is():
    shapes = Shapes()
    network = Network()
    shapes.module(network)
    tracker = PeakTracker(shapes, vocabulary=1000)
    states = shapes.fake(torch.zeros(32, 64, requires_grad=True))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, foreach=True)
    with tracker.ledger.modules_known(), tracker:
        tracker.kind = "activations"
        loss = network(states).float().logsumexp(-1).mean()
        assert loss.item() == 1.0
        loss.backward()
        tracker.kind = "optimizer"
        optimizer.step()
        left_out("host_copy::states", [states.detach()], [])
    counts = tracker.ledger.counts
    flops = {work: sum(o.traffic.flops * n for o, n in counts.items() if o.work == work) for work in KINDS_OF_WORK}
    block, head = 2 * 32 * 64 * 64, 2 * 32 * 64 * 1000
    assert flops["products"] == 3 * block
    assert flops["head"] == 3 * head
    result = estimate(counts, H100)
    assert all(result.by_work[work] > 0 for work in KINDS_OF_WORK if work != "attention")
    assert result.device_seconds == pytest.approx(sum(result.by_work.values()))
    assert result.device_seconds == pytest.approx(sum(result.by_operator.values()))
    assert result.flops - flops["recomputation"] == result.model_flops == 3 * (block + head)
    assert result.waits == 1
    assert result.host_seconds == result.launches * LAUNCH_SECONDS
    assert result.seconds == max(result.device_seconds, result.host_seconds) + WAIT_SECONDS
    assert result.slow_seconds == result.launches * SLOW_LAUNCH_SECONDS + WAIT_SECONDS > result.seconds
    assert result.by_work["copies"] == pytest.approx(max(states.nbytes / HOST_BUS, KERNEL_SECONDS))


def test_cards_by_short_names():
    assert [card_named(name).name for name in ("4090", "3060", "A100", "l40s", "H100")] == [
        "RTX 4090",
        "RTX 3060",
        "A100 80GB",
        "L40S",
        "H100",
    ]
    for wrong in ("", "V100"):
        with pytest.raises(ConfigError, match="RTX 3060"):
            card_named(wrong)


def test_a_ledger_without_modules_knows_no_recomputation():
    ledger = StepLedger()
    one = torch.ones(3)
    ledger.note(torch.ops.aten.add.Tensor, (one, one), {}, one.clone(), optimizing=False)
    assert [operation.work for operation in ledger.counts] == ["element-wise"]
