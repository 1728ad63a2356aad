"""The fused head against the plain one."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, linear
from torch.utils._python_dispatch import TorchDispatchMode

from tests.core.nn.largest import LargestTensor
from tts_train.nn.linear_cross_entropy import RowGroup, linear_cross_entropy

TOKENS, WIDTH, VOCABULARY = 50, 16, 97
GROUPS = (((10, 40),), ((3, 4), (50, 90)))


class NoCounting(TorchDispatchMode):
    """Refuses what a GPU must finish before the host knows a size or a value."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        assert not any(part in name for part in ("nonzero", "masked_select", "_local_scalar_dense", "unique")), name
        return func(*args, **(kwargs or {}))


def inputs(dtype=torch.float32, *, tokens=TOKENS, vocabulary=VOCABULARY, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, WIDTH, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, WIDTH, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    targets[::3] = -100
    return hidden, weight, targets


def row_groups(targets, masks, ranges, *, vocabulary=VOCABULARY):
    """Groups of the kept tokens below each mask, and one of all rows for the others."""
    kept = targets != -100
    rest = ~torch.stack(masks).any(dim=0)
    rows = [*ranges, ((0, vocabulary),)]
    return [RowGroup(tokens=mask[kept].nonzero()[:, 0], rows=r) for mask, r in zip([*masks, rest], rows, strict=True)]


def plain(hidden, weight, targets):
    wide = torch.promote_types(hidden.dtype, torch.float32)
    return cross_entropy(linear(hidden, weight).to(wide), targets, reduction="sum")


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)]
)
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_equal_to_plain_cross_entropy(dtype, tolerance, chunk):
    hidden, weight, targets = inputs(dtype)
    expected = plain(hidden, weight, targets)
    expected_grads = torch.autograd.grad(expected * 0.3, (hidden, weight))
    output = linear_cross_entropy(hidden, weight, targets, chunk_tokens=chunk)
    grads = torch.autograd.grad(output.loss_sum * 0.3, (hidden, weight))
    assert output.count == int((targets != -100).sum())
    torch.testing.assert_close(output.loss_sum, expected, rtol=1e-6 if dtype == torch.bfloat16 else tolerance, atol=0)
    for grad, other in zip(grads, expected_grads, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, other, rtol=0, atol=tolerance * other.abs().max().item())


def test_gradient_is_the_slope_of_the_loss():
    hidden, weight, targets = inputs(torch.float64, tokens=5, vocabulary=7)
    targets[1] = 5
    groups = row_groups(targets, [torch.arange(5) == 1], [((0, 1), (2, 7))], vocabulary=7)

    def loss(h, w):
        return linear_cross_entropy(h, w, targets, chunk_tokens=2, row_groups=groups).loss_sum

    grads = torch.autograd.grad(loss(hidden, weight), (hidden, weight))
    step = 1e-6
    for which, grad in enumerate(grads):
        slopes = torch.zeros_like(grad)
        for i in range(grad.numel()):
            values = []
            for sign in (1, -1):
                moved = [hidden.detach().clone(), weight.detach().clone()]
                moved[which].view(-1)[i] += sign * step
                values.append(loss(*moved))
            slopes.view(-1)[i] = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(grad, slopes, rtol=1e-6, atol=1e-8)


def test_by_products():
    hidden, weight, targets = inputs(torch.float64)
    output = linear_cross_entropy(hidden, weight, targets, chunk_tokens=8)
    kept = targets != -100
    logits = linear(hidden, weight)[kept]
    assert torch.equal(output.targets, targets[kept])
    assert torch.equal(output.predictions, logits.argmax(dim=1))
    torch.testing.assert_close(output.losses, cross_entropy(logits, targets[kept], reduction="none"))
    assert not output.losses.requires_grad
    torch.testing.assert_close(output.losses.sum(), output.loss_sum)


def test_tied_weight_gets_both_gradients():
    _, table, targets = inputs(torch.float64)
    ids = torch.arange(TOKENS) % VOCABULARY
    grads = [torch.autograd.grad(plain(table[ids].tanh(), table, targets), table)[0]]
    grads.append(torch.autograd.grad(linear_cross_entropy(table[ids].tanh(), table, targets).loss_sum, table)[0])
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("frozen", ["weight", "hidden"])
def test_frozen_side_gets_no_gradient(frozen):
    hidden, weight, targets = inputs()
    {"weight": weight, "hidden": hidden}[frozen].requires_grad_(False)
    free = hidden if frozen == "weight" else weight
    expected = torch.autograd.grad(plain(hidden, weight, targets), free)[0]
    linear_cross_entropy(hidden, weight, targets).loss_sum.backward()
    torch.testing.assert_close(free.grad, expected, rtol=1e-4, atol=1e-5)
    assert (weight if frozen == "weight" else hidden).grad is None


def test_frozen_weight_and_validation_make_no_weight_gradient():
    hidden, weight, targets = inputs(tokens=6, vocabulary=5000)
    for frozen in (True, False):
        weight.requires_grad_(not frozen)
        with torch.set_grad_enabled(frozen), LargestTensor() as largest:
            linear_cross_entropy(hidden, weight, targets, chunk_tokens=2)
        assert largest.elements == 2 * 5000


def test_validation_gives_the_same_loss():
    hidden, weight, targets = inputs()
    trained = linear_cross_entropy(hidden, weight, targets, chunk_tokens=9)
    with torch.inference_mode():
        validated = linear_cross_entropy(hidden, weight, targets, chunk_tokens=9)
    assert torch.equal(validated.losses, trained.losses)
    assert not validated.loss_sum.requires_grad


def test_nothing_kept_is_a_loss_of_zero():
    hidden, weight, targets = inputs()
    output = linear_cross_entropy(hidden, weight, torch.full_like(targets, -100))
    output.loss_sum.backward()
    assert output.count == 0
    assert output.loss_sum.item() == 0
    assert not hidden.grad.any()
    assert not weight.grad.any()


def test_restricted_softmax_is_a_softmax_over_fewer_rows():
    hidden, weight, targets = inputs(torch.float64)
    masks = [torch.arange(TOKENS) % 5 == 1, torch.arange(TOKENS) % 5 == 2]
    targets[masks[0] & (targets != -100)] = 12
    targets[masks[1] & (targets != -100)] = 88
    targets[2] = 3
    bias = torch.zeros(TOKENS, VOCABULARY, dtype=torch.float64)
    for mask, ranges in zip(masks, GROUPS, strict=True):
        outside = torch.ones(VOCABULARY, dtype=torch.bool)
        for start, end in ranges:
            outside[start:end] = False
        bias[mask[:, None] & outside] = -torch.inf
    expected = cross_entropy(linear(hidden, weight) + bias, targets, reduction="sum")
    groups = row_groups(targets, masks, GROUPS)
    output = linear_cross_entropy(hidden, weight, targets, chunk_tokens=4, row_groups=groups)
    torch.testing.assert_close(output.loss_sum, expected)
    grads = torch.autograd.grad(output.loss_sum, (hidden, weight))
    for grad, other in zip(grads, torch.autograd.grad(expected, (hidden, weight)), strict=True):
        torch.testing.assert_close(grad, other)
    assert torch.equal(output.predictions, (linear(hidden, weight) + bias)[targets != -100].argmax(dim=1))


def test_logits_exist_a_chunk_at_a_time():
    hidden, weight, targets = inputs(tokens=600, vocabulary=3000)
    with LargestTensor() as largest:
        linear_cross_entropy(hidden, weight, targets, chunk_tokens=32).loss_sum.backward()
    assert largest.elements == 32 * 3000


def test_autocast_computes_in_its_type_and_sums_in_the_weights():
    hidden, weight, targets = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = plain(hidden, weight, targets)
        output = linear_cross_entropy(hidden, weight, targets, chunk_tokens=8)
    grads = torch.autograd.grad(output.loss_sum, (hidden, weight))
    torch.testing.assert_close(output.loss_sum, expected, rtol=1e-5, atol=0)
    for grad, other in zip(grads, torch.autograd.grad(expected, (hidden, weight)), strict=True):
        assert grad.dtype == torch.float32
        torch.testing.assert_close(grad, other, rtol=0, atol=2e-2 * other.abs().max().item())


def test_second_backward_is_refused():
    hidden, weight, targets = inputs()
    loss = linear_cross_entropy(hidden, weight, targets).loss_sum
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="already used"):
        loss.backward()


def test_known_indices_are_not_looked_for():
    hidden, weight, targets = inputs()
    kept = (targets != -100).nonzero().squeeze(1)
    groups = row_groups(targets, [torch.arange(TOKENS) % 5 == 1], [((0, VOCABULARY),)])
    with NoCounting():
        for given in ((), groups):
            output = linear_cross_entropy(hidden, weight, targets, kept=kept, chunk_tokens=8, row_groups=given)
            output.loss_sum.backward()
    assert output.count == len(kept)
    with pytest.raises(AssertionError, match="nonzero"), NoCounting():
        linear_cross_entropy(hidden, weight, targets)


def test_groups_that_leave_tokens_out_are_refused():
    hidden, weight, targets = inputs()
    few = RowGroup(tokens=torch.arange(3), rows=((0, VOCABULARY),))
    with pytest.raises(ValueError, match="hold 3 tokens and 33 carry a loss"):
        linear_cross_entropy(hidden, weight, targets, row_groups=[few])


def restricted(targets):
    """Groups of a third of the tokens each, whose targets are moved into their rows."""
    masks = [torch.arange(TOKENS) % 5 == 1, torch.arange(TOKENS) % 5 == 2]
    targets[masks[0] & (targets != -100)] = 12
    targets[masks[1] & (targets != -100)] = 88
    bias = torch.zeros(TOKENS, VOCABULARY, dtype=torch.float64)
    for mask, ranges in zip(masks, GROUPS, strict=True):
        outside = torch.ones(VOCABULARY, dtype=torch.bool)
        for start, end in ranges:
            outside[start:end] = False
        bias[mask[:, None] & outside] = -torch.inf
    return row_groups(targets, masks, GROUPS), bias


def upstream(kind, count, dtype):
    """What each token's loss counts in the end."""
    made = torch.randn(count, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    made = {"mixed": made, "some zero": made * (torch.arange(count) % 3 > 0), "zero": made * 0}[kind]
    return made.to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", ["mixed", "some zero", "zero"])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("trained", [("hidden", "weight"), ("hidden",), ("weight",)])
def test_each_token_may_count_as_it_likes(dtype, tolerance, kind, grouped, trained):
    hidden, weight, targets = inputs(dtype)
    groups, bias = restricted(targets) if grouped else ((), torch.zeros(()))
    free = [each.requires_grad_(name in trained) for name, each in (("hidden", hidden), ("weight", weight))]
    free = [each for each in free if each.requires_grad]
    kept = targets != -100
    counts = upstream(kind, int(kept.sum()), dtype)
    expected = cross_entropy((linear(hidden, weight) + bias.to(dtype))[kept], targets[kept], reduction="none")
    output = linear_cross_entropy(hidden, weight, targets, chunk_tokens=7, row_groups=groups, tokenwise=True)
    torch.testing.assert_close(output.losses, expected, rtol=tolerance, atol=tolerance)
    wanted = torch.autograd.grad((expected * counts).sum(), free)
    found = torch.autograd.grad((output.losses * counts).sum(), free)
    for grad, other in zip(found, wanted, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, other, rtol=0, atol=tolerance * other.abs().max().clamp(min=1).item())


def test_tokenwise_losses_are_those_of_the_sum():
    hidden, weight, targets = inputs()
    summed = linear_cross_entropy(hidden, weight, targets, chunk_tokens=8)
    tokenwise = linear_cross_entropy(hidden, weight, targets, chunk_tokens=8, tokenwise=True)
    assert torch.equal(tokenwise.losses, summed.losses)
    assert torch.equal(tokenwise.loss_sum, summed.loss_sum)
    assert torch.equal(tokenwise.predictions, summed.predictions)
    wanted = torch.autograd.grad(summed.loss_sum * 0.3, (hidden, weight))
    found = torch.autograd.grad(tokenwise.loss_sum * 0.3, (hidden, weight))
    for grad, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        judged = linear_cross_entropy(hidden, weight, targets, chunk_tokens=8, tokenwise=True)
    assert torch.equal(judged.losses, summed.losses)
    assert not judged.losses.requires_grad


def test_tokenwise_takes_a_chunk_of_logits_in_backward_too():
    hidden, weight, targets = inputs(tokens=600, vocabulary=3000)
    kept = (targets != -100).nonzero().squeeze(1)
    for frozen in (False, True):
        weight.requires_grad_(not frozen)
        with LargestTensor() as largest, NoCounting():
            made = linear_cross_entropy(hidden, weight, targets, kept=kept, chunk_tokens=32, tokenwise=True)
            (made.losses * torch.linspace(-1, 1, made.count)).sum().backward()
        assert largest.elements == 32 * 3000


def test_tokenwise_under_autocast_and_in_float16():
    hidden, weight, targets = inputs()
    counts = upstream("mixed", int((targets != -100).sum()), torch.float32)
    for kind in (torch.bfloat16, torch.float16):
        for trained in (True, False):
            weight.requires_grad_(trained)
            free = (hidden, weight) if trained else (hidden,)
            with torch.autocast("cpu", dtype=kind):
                logits = linear(hidden, weight).float()[targets != -100]
                expected = cross_entropy(logits, targets[targets != -100], reduction="none")
                made = linear_cross_entropy(hidden, weight, targets, chunk_tokens=8, tokenwise=True)
            # A loss scale that no float16 holds, as mixed precision has it.
            found = torch.autograd.grad((made.losses * counts * 2.0**20).sum(), free)
            wanted = torch.autograd.grad((expected * counts).sum(), free)
            for grad, other in zip(found, wanted, strict=True):
                assert grad.dtype == torch.float32
                torch.testing.assert_close(grad / 2.0**20, other, rtol=0, atol=2e-2 * other.abs().max().item())


def test_tokenwise_of_nothing_and_used_twice():
    hidden, weight, targets = inputs()
    nothing = linear_cross_entropy(hidden, weight, torch.full_like(targets, -100), tokenwise=True)
    nothing.losses.sum().backward()
    assert not hidden.grad.any()
    assert not weight.grad.any()
    losses = linear_cross_entropy(hidden, weight.detach(), targets, tokenwise=True).losses
    losses.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="already used"):
        losses.sum().backward()
