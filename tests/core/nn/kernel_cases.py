"""Fused operators against plain PyTorch in float64, in a process of its own: Triton's interpreter is chosen at import.

Run as ``python -m tests.core.nn.kernel_cases [device]``; it prints one JSON line a case: its name and the greatest
error of each result, as a share of the result's largest value.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tts_train.nn.kernels.rms_norm import add_rms_norm, rms_norm, rms_norm_reference
from tts_train.nn.kernels.rope import rope
from tts_train.nn.kernels.swiglu import swiglu

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Run = Callable[..., "Tensor | tuple[Tensor, ...]"]
EPS = 1e-5


def errors(run: Run, reference: Run, given: list[Tensor]) -> list[float]:
    """Results, then gradients of all inputs that have one, each with its greatest error."""
    generator = torch.Generator().manual_seed(7)
    inputs = [[t.detach().clone().requires_grad_(t.requires_grad) for t in given]]
    inputs.append([t.detach().double().requires_grad_(t.requires_grad) for t in given])
    sides = []
    for function, arguments in zip((run, reference), inputs, strict=True):
        made = function(*arguments)
        made = made if isinstance(made, tuple) else (made,)
        sides.append((made, arguments))
    slopes = [torch.randn(one.shape, generator=generator).to(one) for one in sides[0][0]]
    for made, _ in sides:
        torch.autograd.backward(made, [slope.to(one.dtype) for slope, one in zip(slopes, made, strict=True)])
    pairs = list(zip(sides[0][0], sides[1][0], strict=True))
    pairs += [(a.grad, b.grad) for a, b in zip(sides[0][1], sides[1][1], strict=True) if a.requires_grad]
    return [((a.double() - b).abs().max() / b.abs().max()).item() for a, b in pairs]


def cases(device: str) -> Iterator[tuple[str, list[float]]]:
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int, dtype: torch.dtype, gradient: bool = True) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype).requires_grad_(gradient)

    for name, dtype in DTYPES.items():
        for rows, width in ((1, 8), (5, 100), (259, 3)):  # more rows than partial sums, and no power of two
            states, residual = (random(rows, width, dtype=dtype) for _ in range(2))
            for kept, weight in (("", dtype), (" float32 weight", torch.float32))[: 1 if rows > 5 else 2]:
                factors = random(width, dtype=weight)
                where = f"{name} {rows}x{width}{kept}"
                yield (
                    f"rms_norm {where}",
                    errors(
                        lambda x, w: rms_norm(x, w, EPS), lambda x, w: rms_norm_reference(x, w, EPS), [states, factors]
                    ),
                )
                frozen = factors.detach()
                yield (
                    f"rms_norm {where} frozen",
                    errors(
                        lambda x, w: rms_norm(x, w, EPS), lambda x, w: rms_norm_reference(x, w, EPS), [states, frozen]
                    ),
                )

                def plain(x: Tensor, r: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
                    return r + x, rms_norm_reference(r + x, w, EPS)

                yield (
                    f"add_rms_norm {where}",
                    errors(lambda x, r, w: add_rms_norm(x, r, w, EPS), plain, [states, residual, factors]),
                )
        wide = random(5, 100, dtype=torch.float32)
        yield (
            f"add_rms_norm {name} on a float32 residual",
            errors(
                lambda x, r, w: add_rms_norm(x, r, w, EPS),
                plain,
                [random(5, 100, dtype=dtype), wide, random(100, dtype=torch.float32)],
            ),
        )
        for tokens, heads, key_heads, width in ((1, 4, 2, 8), (7, 3, 1, 20), (3, 24, 8, 128)):
            angles = torch.rand(tokens, width // 2, generator=generator).to(device) * 6
            query, key = random(tokens, heads, width, dtype=dtype), random(tokens, key_heads, width, dtype=dtype)
            yield (
                f"rope {name} {tokens}x{heads}/{key_heads}x{width}",
                errors(rope, llama_rope, [query, key, angles.cos(), angles.sin()]),
            )
            # Views of one product's result, tokens apart by more than their own size.
            both = random(tokens, (heads + key_heads) * width, dtype=dtype)

            def divided(x: Tensor, function: Run, cut: int, width: int, *angles: Tensor) -> tuple[Tensor, ...]:
                pieces = (piece.unflatten(-1, (-1, width)) for piece in x.tensor_split([cut], dim=-1))
                return function(*pieces, *angles)

            yield (
                f"rope {name} of views {tokens}",
                errors(
                    lambda x, c, s, cut=heads * width, w=width: divided(x, rope, cut, w, c, s),
                    lambda x, c, s, cut=heads * width, w=width: divided(x, llama_rope, cut, w, c, s),
                    [both, angles.cos(), angles.sin()],
                ),
            )
        for rows, width in ((1, 3), (7, 331), (2, 512)):
            gate, up = random(rows, width, dtype=dtype), random(rows, width, dtype=dtype)
            yield (
                f"swiglu {name} {rows}x{width}",
                errors(swiglu, lambda g, u: torch.nn.functional.silu(g) * u, [gate, up]),
            )


def llama_rope(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """What transformers computes, whose tables have each angle twice."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    tables = (torch.cat([table, table], dim=-1) for table in (cos, sin))
    both: tuple[Tensor, Tensor] = apply_rotary_pos_emb(query, key, *tables, unsqueeze_dim=1)
    return both


if __name__ == "__main__":
    for case, figures in cases(sys.argv[1] if len(sys.argv) > 1 else "cpu"):
        print(json.dumps([case, figures]))
