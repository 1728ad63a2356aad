"""Step 3: the tests marked gpu, and what the card computes against float64, float32 and the CPU."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gpu_blocks.job import ROOT, Job, threads
from gpu_blocks.telling import CAUSE

TEST_SECONDS = 40
"""Most that one test may take; all of them have what the block has left. On an H200 they were 250 s of work, and six
processes were done with 98 % of them after 85 s."""
TESTS_LOG = "pytest.txt"


def run(job: Job) -> None:
    """Run the comparisons, then the tests: one that hangs hides no comparison."""
    for name, check in _CHECKS.items():
        with job.record.part(name):
            check(job)
    with job.record.part("tests marked gpu"):
        _tests(job)


def _tests(job: Job) -> None:
    marked = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    files = [str(path.relative_to(ROOT)) for path in marked]
    words = ["-m", "gpu", "-p", "no:cacheprovider", "--basetemp", str(job.work / "pytest")]
    words += ["--timeout", str(TEST_SECONDS), "-v", "-p", "gpu_blocks.telling"]
    # Most of their time is compiling kernels, which processes do side by side. Without a card all that can be seen is
    # that they can be imported with what was carried.
    workers = str(max(2, min(12, threads() - 2)))
    words += ["--numprocesses", workers, "--dist", "worksteal"] if job.cuda else ["--collect-only"]
    command = [sys.executable, "-m", "pytest", *words, *files]
    # A file, not a pipe: what was printed before a hang is kept, and a worker that lives on does not hold this up.
    log, seconds = job.out / TESTS_LOG, job.left()
    with log.open("wb") as stream:
        try:
            code: int | None = subprocess.run(
                command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, check=False, timeout=seconds
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    lines = log.read_text("utf-8", errors="replace").splitlines()
    told = [f"not done after {seconds:.0f} s", *unfinished(lines)] if code is None else lines[-1:]
    causes = [line.removeprefix(CAUSE) for line in lines if line.startswith(CAUSE)]
    passed = sum(bool(re.match(r"\[gw\d+\].* PASSED ", line)) for line in lines)
    job.record.criterion("pytest -m gpu", code == 0, [*told, f"{passed} passed", *causes[:12]], goal="all pass")


def unfinished(lines: list[str]) -> list[str]:
    """Return the tests that began, by pytest's verbose output from several processes, and have no outcome in it."""
    begun = {line.strip() for line in lines if line.startswith("tests/") and "::" in line}
    ended = {match[1].strip() for line in lines if (match := re.match(r"\[gw\d+\].*?(tests/.*)", line))}
    return sorted(f"unfinished: {name}" for name in begun - ended)


def _varlen(job: Job) -> None:
    """Compare packed attention with float64, forward and backward, plainly and recomputed in backward."""
    from torch.utils.checkpoint import checkpoint

    from tts_train.nn.packed_attention import packed_attention

    lengths = [1, 7, 30] if job.tiny else [1, 17, 64, 333, 1100]
    ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32, device=job.device)
    made = torch.Generator(job.device).manual_seed(0)
    shapes = [(1, heads, sum(lengths), 128) for heads in (24, 8, 8)]
    exact = [torch.randn(shape, device=job.device, dtype=torch.float64, generator=made) for shape in shapes]
    half = torch.bfloat16 if job.cuda else torch.float32
    near = [each.to(half).requires_grad_() for each in exact]
    exact = [each.detach().double().requires_grad_() for each in near]

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return packed_attention(q, k, v, cu_seqlens=ends, max_seqlen=max(lengths))

    expected = call(*exact)
    wanted = torch.autograd.grad(expected.square().sum(), exact)
    for name, output in (("packed", call(*near)), ("recomputed", checkpoint(call, *near, use_reentrant=False))):
        got = torch.autograd.grad(output.double().square().sum(), near)
        errors = {"output": _off(output, expected)}
        errors |= {letter: _off(one, other) for letter, one, other in zip("qkv", got, wanted, strict=True)}
        ok = max(errors.values()) < 0.02
        job.record.criterion(f"{name} attention against float64", ok, errors, goal="2 % of the largest value")


def _output_layer(job: Job) -> None:
    """Compare the chunked output layer with float64's cross-entropy, its gradients and its form without any."""
    from torch.nn.functional import cross_entropy

    from tts_train.nn.linear_cross_entropy import linear_cross_entropy

    tokens, width, rows = (40, 32, 999) if job.tiny else (700, 512, 156_940)
    made = torch.Generator(job.device).manual_seed(0)
    hidden = torch.randn(tokens, width, device=job.device, generator=made)
    weight = torch.randn(rows, width, device=job.device, generator=made) * width**-0.5
    targets = torch.randint(0, rows, (tokens,), device=job.device, generator=made)
    targets[::7] = -100
    for kind, allowed in ((torch.float32, 1e-4), (torch.bfloat16, 0.02)):
        near = [each.to(kind).requires_grad_() for each in (hidden, weight)]
        exact = [each.detach().double().requires_grad_() for each in near]
        found = linear_cross_entropy(*near, targets, chunk_tokens=256)
        loss = cross_entropy(exact[0] @ exact[1].T, targets, ignore_index=-100, reduction="sum")
        wanted, got = torch.autograd.grad(loss, exact), torch.autograd.grad(found.loss_sum, near)
        errors = {"loss": abs(float(found.loss_sum) / float(loss) - 1)}
        errors |= {name: _off(one, other) for name, one, other in zip(("states", "matrix"), got, wanted, strict=True)}
        with torch.no_grad():
            again = linear_cross_entropy(*near, targets, chunk_tokens=256)
        errors["without gradients"] = abs(float(again.loss_sum) / float(loss) - 1)
        ok = max(errors.values()) < allowed
        job.record.criterion(f"output layer against float64, {kind}", ok, errors, goal=f"{allowed:g}")


def _rounding(job: Job) -> None:
    """A step far below what bfloat16 can hold arrives on average, and the same one twice."""
    count, lr = (2**16, 1e-4) if job.tiny else (2**22, 1e-4)
    first, again = (_stepped(job.device, "adamw", count, lr=lr, rounding="stochastic") for _ in range(2))
    moved = float(first.double().mean()) - 1
    step = 2.0**-8
    allowed = 6 * step * (lr / step) ** 0.5 / count**0.5
    ok = abs(moved + lr) < allowed
    job.record.criterion("stochastic rounding is unbiased", ok, moved, goal=f"-{lr:g} within {allowed:.1g}")
    job.record.criterion("stochastic rounding repeats", torch.equal(first, again), goal="equal bits")
    if job.needs_card("stochastic rounding as on a CPU"):
        same = (first.cpu() == _stepped("cpu", "adamw", count, lr=lr, rounding="stochastic")).float().mean()
        job.record.figure("stochastic rounding: weights equal to a CPU's", 100 * float(same), "%")


def _optimisers(job: Job) -> None:
    """Eight-bit optimisers move a weight as they should; offloaded and paged states change nothing."""
    count = 2**14
    if job.needs_card("adamw8bit against float64"):  # bitsandbytes' code for CPUs is coarser: see exact.py
        error = off_exact(job.device, count)
        job.record.criterion("adamw8bit against float64", error < 0.05, error, goal="0.05 of a step")
    expected, got = (_stepped(device, "lion8bit", count, lr=1e-2, kind=torch.float32) for device in ("cpu", job.device))
    error = float((got.cpu() - expected).abs().max()) / 1e-2
    job.record.criterion("lion8bit against the CPU", error < 0.05, error, goal="0.05 of a step")
    plain = _stepped(job.device, "adamw8bit", count, lr=1e-2)
    offloaded = _stepped(job.device, "adamw8bit", count, lr=1e-2, offload=True)
    same = torch.allclose(plain.float(), offloaded.float(), rtol=0, atol=1e-3)
    job.record.criterion("offloaded states", same, goal="the same weights")
    if job.needs_card("paged states"):
        _paged(job)


PAGED = 2**18
"""bitsandbytes pages no state of fewer than 100,000 elements."""


def _paged(job: Job) -> None:
    """Compare bitsandbytes' paged AdamW with its own without pages: the kernel of all others is another."""
    import bitsandbytes

    from tts_train.optim.build import parameter_groups

    def unpaged(module: torch.nn.Module, options: Any) -> torch.optim.Optimizer:
        groups = parameter_groups(module, options)
        numbers = {"lr": options.lr, "betas": options.betas, "eps": options.eps}
        return bitsandbytes.optim.AdamW8bit(groups, **numbers)  # type: ignore[no-any-return]

    made: list[Any] = []
    paged = _stepped(job.device, "paged_adamw8bit", PAGED, lr=1e-2, made=made)
    plain = _stepped(job.device, "paged_adamw8bit", PAGED, lr=1e-2, build=unpaged)
    states = [states["state1"] for states in made[0].state.values()]
    job.record.criterion("states are paged", all(getattr(each, "is_paged", False) for each in states))
    apart = (paged != plain).float().mean()
    job.record.criterion("paged states", not apart, 100 * float(apart), goal="the same weights", unit="% differ")
    ours = _stepped(job.device, "adamw8bit", PAGED, lr=1e-2)
    job.record.figure("our 8-bit AdamW: weights unlike bitsandbytes'", 100 * float((ours != plain).float().mean()), "%")


def off_exact(device: str, count: int) -> float:
    """Return how far three steps of 8-bit AdamW end from float64's, in steps, at the farthest weight."""
    from gpu_blocks.exact import adamw8bit
    from tts_train.optim import OptimizerOptions

    lr = 1e-2
    got = _stepped(device, "adamw8bit", count, lr=lr, kind=torch.float32)
    chance = torch.Generator().manual_seed(1)
    gradients = [torch.randn(got.shape, generator=chance) for _ in range(3)]
    expected = adamw8bit(torch.ones(got.shape), gradients, OptimizerOptions("adamw8bit", lr=lr))
    return float((got.cpu() - expected).abs().max()) / lr


def _stepped(
    device: str,
    name: str,
    count: int,
    *,
    kind: torch.dtype = torch.bfloat16,
    build: Callable[[torch.nn.Module, Any], torch.optim.Optimizer] | None = None,
    made: list[Any] | None = None,
    **options: Any,
) -> Tensor:
    """Return a weight of ones after a step along a fixed gradient; ``made`` gets the optimiser."""
    from tts_train.optim import OptimizerOptions
    from tts_train.optim.build import build_optimizer

    torch.manual_seed(0)
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.ones(count // 256, 256, dtype=kind, device=device))
    optimizer = (build or build_optimizer)(module, OptimizerOptions(name=name, **options))  # type: ignore[arg-type]
    if made is not None:
        made.append(optimizer)
    chance = torch.Generator().manual_seed(1)
    plain = options.get("rounding") == "stochastic"
    for _ in range(1 if plain else 3):
        gradient = torch.ones(module.weight.shape) if plain else torch.randn(module.weight.shape, generator=chance)
        module.weight.grad = gradient.to(device, kind)
        optimizer.step()
    return module.weight.detach()


def _quantised(job: Job) -> None:
    """Products with matrices of 4 and 8 bits, against the CPU's."""
    import bitsandbytes

    if not job.needs_card("products of 4 and 8 bits"):
        return
    chance = torch.Generator().manual_seed(0)
    matrix = torch.randn(512, 512, generator=chance) * 0.02
    states = torch.randn(64, 512, generator=chance)
    made = {
        "4 bits": lambda: bitsandbytes.nn.Params4bit(matrix.to(torch.bfloat16), requires_grad=False, quant_type="nf4"),
        "8 bits": lambda: bitsandbytes.nn.Int8Params(
            matrix.to(torch.bfloat16), requires_grad=False, has_fp16_weights=False
        ),
    }
    for name, parameter in made.items():
        outputs = []
        for device in ("cpu", job.device):
            layer = (
                bitsandbytes.nn.Linear4bit(512, 512, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
                if name == "4 bits"
                else bitsandbytes.nn.Linear8bitLt(512, 512, bias=False, has_fp16_weights=False, threshold=6.0)
            )
            layer.weight = parameter()
            layer.to(device)
            outputs.append(layer(states.to(device, torch.bfloat16)).double().cpu())
        error = _off(outputs[1], outputs[0])
        job.record.criterion(
            f"product with {name} against the CPU", error < 0.03, error, goal="3 % of the largest value"
        )


def _off(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    apart = (found.detach().double() - expected.detach().double()).abs().max()
    return float(apart / expected.detach().abs().max().clamp(min=1e-12))


_CHECKS = {
    "attention against float64": _varlen,
    "output layer against float64": _output_layer,
    "rounding": _rounding,
    "optimisers": _optimisers,
    "quantised products": _quantised,
}
