"""ScaledAdam as the text-to-semantic stage of GPT-SoVITS runs it, and its learning rate.

Adam whose steps are relative to each tensor's root mean square, with a second, slower Adam on that size (the optimiser
of the k2 speech recipes; Yao et al. 2023, arXiv 2310.11230, section 3.4). Tensors of one type and shape are stacked and
stepped together; their state lies with the first of them, stacked too, so that states can be exchanged with upstream.

On a GPU two moves go over whole stacks: few kernels, and no number that the host must know. On a CPU each parameter is
moved by itself, which keeps it in the cache; the results agree within rounding.

Upstream computes a warm-up and a cosine, then overwrites the result with 0.002 at every scheduler step; its constructor
sets nothing, so the first optimiser step alone runs at the optimiser's own rate. Known recipes depend on that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tts_train.nn import runs_on

SIZE_PERIOD = 4
"""Steps after which what the loss asked of the sizes becomes one step of theirs."""
_FULL_CORRECTION = 0.99
"""The running square is corrected for its start only while the correction is below this."""


class ScaledAdam(Optimizer):
    """Adam relative to each tensor's size, and Adam on the sizes.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate, relative to a tensor's root mean square.
        betas: Decay of the step and of the running square.
        clipping_scale: Norms above this many medians count as too large.
        clipping_update_period: Steps after which the median is taken anew; nothing is clipped before the first.
        scalar_lr_scale: Factor on lr for sizes and for parameters of one element.
        eps: Added to the root of running squares.
        param_min_rms: Least root mean square that steps are relative to.
        param_max_rms: Tensors above it are made to shrink.
        scalar_max: Bound on parameters of one element.
        clip_update: Also clip the gradient of the main step. Upstream clips only the gradient that moves the sizes, so
            a bad batch is hardly held back; False does the same.
    """

    skips_on_device = True
    """That a step heeds ``found_inf``."""
    found_inf: Tensor | None = None
    """Set before a step to a number on the device, 1 where a gradient or loss is not finite: this step then takes all
    gradients as zeros, as where they are missing. The host need not know it. A step takes it once."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.95),
        *,
        clipping_scale: float = 2.0,
        clipping_update_period: int = 1000,
        scalar_lr_scale: float = 0.1,
        eps: float = 1e-8,
        param_min_rms: float = 1e-5,
        param_max_rms: float = 3.0,
        scalar_max: float = 10.0,
        clip_update: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "clipping_scale": clipping_scale,
            "clipping_update_period": clipping_update_period,
            "scalar_lr_scale": scalar_lr_scale,
            "eps": eps,
            "param_min_rms": param_min_rms,
            "param_max_rms": param_max_rms,
            "scalar_max": scalar_max,
            "clip_update": clip_update,
        }
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter once; a missing gradient counts as zeros."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found, self.found_inf = self.found_inf, None
        for group in self.param_groups:
            self._step_group(group, None if found is None else found > 0)
        return loss

    def _step_group(self, group: dict[str, Any], bad: Tensor | None) -> None:
        stacks = [_Stack(members, self.state[members[0]], bad) for members in _alike(group["params"])]
        # Upstream's clipping: the factor reaches only the gradient of the sizes; the main step takes raw gradients
        # (AR/modules/optim.py). `clip_update` is what its documentation promises.
        factor = _clipping_factor(stacks, group)
        for stack in stacks:
            if stack.whole:
                gradients = stack.stacked_gradients()
                resize_stack(stack.members, gradients, stack.state, factor, group)
                gradients = gradients.mul_(factor) if group["clip_update"] else gradients
                move_stack(stack.members, gradients, stack.state, _correction(stack.state["step"], group), group)
            elif stack.sized:
                _resize(stack, factor, group)
                _move(stack, factor if group["clip_update"] else 1.0, group)
            else:
                _move_scalars(stack, factor if group["clip_update"] else 1.0, group)
            # The count lies with every stack, as in upstream's state.
            stack.state["step"] += 1


class _Stack:
    """Parameters of one type and shape, their gradients, and their state, which lies along a new first axis."""

    def __init__(self, members: list[Tensor], state: dict[str, Any], bad: Tensor | None = None) -> None:
        self.members = members
        self.gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in members]
        self.sized = members[0].numel() > 1
        self.whole = self.sized and runs_on(members[0].device) != "cpu"
        self._bad = bad
        if bad is not None and not self.whole:
            self.gradients = [each.masked_fill(bad, 0.0) for each in self.gradients]
        self.state = state
        if not state:
            self._begin()

    def of(self, name: str) -> list[Tensor]:
        """Return a state of each member."""
        return list(self.state[name].unbind())

    def stacked_gradients(self) -> Tensor:
        """Return a copy of the gradients along a new first axis."""
        stacked = torch.stack(self.gradients)
        return stacked if self._bad is None else stacked.masked_fill_(self._bad, 0.0)

    def norms(self) -> Tensor:
        """Return the norm of each gradient (n,)."""
        norms = torch.stack(torch._foreach_norm(self.gradients))
        return norms if self._bad is None else norms.masked_fill(self._bad, 0.0)

    def _begin(self) -> None:
        zeros = self.members[0].new_zeros(len(self.members), *self.members[0].shape)
        self.state.update(step=0, delta=zeros, exp_avg_sq=zeros.clone())
        # Upstream decides by the whole stack here, and so also keeps a size that nothing uses for several scalars.
        if zeros.numel() > 1:
            rms = _rms(self.members)
            self.state.update(
                param_rms=rms,
                scale_exp_avg_sq=torch.zeros_like(rms),
                scale_grads=rms.new_zeros(SIZE_PERIOD, *rms.shape),
            )


def _alike(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """Return the parameters by type and shape, in the order of these."""
    found: dict[tuple[Any, ...], list[Tensor]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            found.setdefault((str(parameter.dtype), *parameter.shape), []).append(parameter)
    return [found[key] for key in sorted(found)]


def _clipping_factor(stacks: list[_Stack], group: dict[str, Any]) -> float | Tensor:
    """Record the gradient's norm and return the factor that brings it below the threshold."""
    first = stacks[0].state
    step, period = first["step"], group["clipping_update_period"]
    # Upstream leaves out the first step, in which the other stacks' states are only being made (AR/modules/optim.py).
    if step == 0:
        return 1.0
    norm = torch.stack([_sum_of_squares(stack) for stack in stacks]).sum().sqrt()
    on_host = runs_on(norm.device) == "cpu"  # a number there costs nothing; for another device's the host would wait
    if "model_norms" not in first:
        first["model_norms"] = torch.zeros(period, dtype=torch.float32, device=norm.device)
    # The last thousand norms are a state of the first stack, whose place in upstream's checkpoint this is.
    first["model_norms"][step % period] = norm
    if step % period == 0:
        # The upper of the two middle norms, which is not what torch.median gives.
        middle = first["model_norms"].sort().values[min(period - 1, period // 4 * 2)]
        threshold = group["clipping_scale"] * middle
        first["model_norm_threshold"] = threshold.item() if on_host else threshold
        first["num_clipped"] = 0
    if step < period:
        return 1.0
    factor: Tensor = ((norm + 1e-20).reciprocal() * first["model_norm_threshold"]).clamp(max=1.0)
    clipped = factor < 1.0
    first["num_clipped"] += int(clipped) if on_host else clipped.float()
    return factor


def _sum_of_squares(stack: _Stack) -> Tensor:
    norms = stack.norms()
    return ((norms * stack.state["param_rms"].flatten() if stack.sized else norms).square()).sum()


def _resize(stack: _Stack, factor: float | Tensor, group: dict[str, Any]) -> None:
    """Decay the step, remember how the loss asks for other sizes, and every few steps turn that into one."""
    state, beta1 = stack.state, group["betas"][0]
    step = state["step"]
    state["delta"] *= beta1
    pulls = [torch.dot(p.flatten(), g.flatten()) for p, g in zip(stack.members, stack.gradients, strict=True)]
    state["scale_grads"][step % SIZE_PERIOD] = (torch.stack(pulls) * factor).view_as(state["param_rms"])
    if step % SIZE_PERIOD != SIZE_PERIOD - 1:
        return
    state["param_rms"].copy_(_rms(stack.members))
    shares = size_shares(state, group).flatten().tolist()
    for delta, member, share in zip(stack.of("delta"), stack.members, shares, strict=True):
        delta.add_(member, alpha=share)


def _move(stack: _Stack, factor: float | Tensor, group: dict[str, Any]) -> None:
    """Add the main step to delta, and delta to the parameters."""
    state, beta1 = stack.state, group["betas"][0]
    scales = state["param_rms"].clamp(min=group["param_min_rms"]) * (-group["lr"] * (1 - beta1))
    shares, deltas, squares = scales.flatten().tolist(), stack.of("delta"), stack.of("exp_avg_sq")
    for part in range(len(shares)):  # one after the other, which stay in the processor's cache
        own = slice(part, part + 1)
        gradients = _scaled(stack.gradients[own], factor)
        roots = _roots(squares[own], gradients, state["step"], group)
        torch._foreach_addcdiv_(deltas[own], gradients, roots, shares[own])
        torch._foreach_add_(stack.members[own], deltas[own])


def _move_scalars(stack: _Stack, factor: float | Tensor, group: dict[str, Any]) -> None:
    """Step parameters of one element: plain Adam at a lower rate, which keeps them within a bound."""
    beta1, rate = group["betas"][0], group["lr"] * group["scalar_lr_scale"]
    deltas, gradients = stack.of("delta"), _scaled(stack.gradients, factor)
    roots = _roots(stack.of("exp_avg_sq"), gradients, stack.state["step"], group, always=True)
    torch._foreach_mul_(deltas, beta1)
    torch._foreach_addcdiv_(deltas, gradients, roots, -rate * (1 - beta1))
    torch._foreach_clamp_min_(stack.members, -group["scalar_max"])
    torch._foreach_clamp_max_(stack.members, group["scalar_max"])
    torch._foreach_add_(stack.members, deltas)


def _roots(
    squares: list[Tensor], gradients: list[Tensor], step: int, group: dict[str, Any], *, always: bool = False
) -> list[Tensor]:
    """Update the running squares and return their roots, which the gradients are divided by."""
    beta2 = group["betas"][1]
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
    roots = list(torch._foreach_sqrt(squares))
    correction = _correction(step, group, always=always)
    if correction is not None:
        torch._foreach_div_(roots, correction**0.5)
    torch._foreach_add_(roots, group["eps"])
    return roots


def _correction(step: int, group: dict[str, Any], *, always: bool = False) -> float | None:
    """Return what the running squares are divided by for their start, None where it no longer counts."""
    correction: float = 1 - group["betas"][1] ** (step + 1)
    return correction if always or correction < _FULL_CORRECTION else None


def _scaled(gradients: list[Tensor], factor: float | Tensor) -> list[Tensor]:
    return gradients if isinstance(factor, float) else list(torch._foreach_mul(gradients, factor))


def _rms(members: list[Tensor]) -> Tensor:
    """Return the root mean square of each (n, 1, ..)."""
    norms: Tensor = torch.stack(torch._foreach_norm(members)) / members[0].numel() ** 0.5
    return norms.view(-1, *(1 for _ in members[0].shape))


def resize_stack(
    members: list[Tensor], gradients: Tensor, state: dict[str, Any], factor: float | Tensor, group: dict[str, Any]
) -> None:
    """Decay the step and remember how the loss asks for other sizes; every few steps turn that into one.

    Args:
        members: The n parameters of a stack, all of one shape.
        gradients: Their gradients (n, ...).
        state: The stack's state.
        factor: What the gradients are multiplied by here, for clipping.
        group: The optimiser's settings.
    """
    beta1, step = group["betas"][0], state["step"]
    state["delta"].mul_(beta1)
    stacked = torch.stack(members)
    pulls = (stacked * gradients).flatten(1).sum(1)
    state["scale_grads"][step % SIZE_PERIOD] = (pulls * factor).view_as(state["param_rms"])
    if step % SIZE_PERIOD == SIZE_PERIOD - 1:
        sizes = stacked.flatten(1).norm(dim=1) / members[0].numel() ** 0.5
        state["param_rms"].copy_(sizes.view_as(state["param_rms"]))
        state["delta"].addcmul_(stacked, size_shares(state, group))


def size_shares(state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """Update the running squares of the sizes' gradients and return the share of each member to add to its step."""
    beta1, beta2 = group["betas"]
    step, decay = state["step"], beta2**SIZE_PERIOD
    running = state["scale_exp_avg_sq"]
    running.mul_(decay).add_(state["scale_grads"].square().mean(0), alpha=1 - decay)
    # Sizes move once in four steps, so their own count of steps is a quarter of it.
    correction = 1 - decay ** ((step + 1) // SIZE_PERIOD)
    rate = group["lr"] * group["scalar_lr_scale"]
    move = -rate * correction**0.5 * state["scale_grads"].sum(0) / (running.sqrt() + group["eps"])
    # A tensor below the least size keeps its size, and one above the largest shrinks at the full rate whatever its
    # gradient says.
    move = move.masked_fill(state["param_rms"] < group["param_min_rms"], 0.0)
    move = move.masked_fill(state["param_rms"] > group["param_max_rms"], -rate * SIZE_PERIOD)
    shares: Tensor = move * (1 - beta1)
    return shares


def move_stack(
    members: list[Tensor], gradients: Tensor, state: dict[str, Any], correction: float | None, group: dict[str, Any]
) -> None:
    """Add the main step to delta, and delta to the parameters; ``gradients`` (n, ...) are overwritten.

    Args:
        members: The n parameters.
        gradients: Their gradients, already clipped.
        state: The stack's state.
        correction: What the running squares are divided by, for their start; None where it no longer counts.
        group: The optimiser's settings.
    """
    beta1, beta2 = group["betas"]
    squares = state["exp_avg_sq"].mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
    roots = squares.sqrt()
    if correction is not None:
        roots.div_(correction**0.5)
    scales = state["param_rms"].clamp(min=group["param_min_rms"]) * (-group["lr"] * (1 - beta1))
    state["delta"].addcmul_(gradients.div_(roots.add_(group["eps"])), scales)
    torch._foreach_add_(members, list(state["delta"].unbind()))


LOCKED_RATE = 0.002
"""The rate of every optimiser step but the first."""


def build_upstream_schedule(optimizer: Optimizer, *, later: float = LOCKED_RATE, done: int = 0) -> LambdaLR:
    """Build the schedule as it works, stepped once an optimiser step: the optimiser's rate once, then ``later``.

    Args:
        optimizer: Its groups' ``lr`` is the rate of the first step.
        later: Rate of every step but the first.
        done: Steps that upstream did before; after the first of them there is no first step to come.
    """
    bases = [group["lr"] for group in optimizer.param_groups]
    # A function of the step alone, so that a continued run is on the same curve; upstream's schedule keeps a rate as
    # state.
    return LambdaLR(optimizer, [_locked(later / base, done) for base in bases])


def _locked(factor: float, done: int) -> Callable[[int], float]:
    return lambda step: 1.0 if step + done == 0 else factor
