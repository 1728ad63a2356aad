"""One step of tiny networks with fused kernels in Triton's interpreter, chosen before Triton is imported.

Run as ``TRITON_INTERPRET=1 python -m tests.orpheus.fused_step METHOD...``; it prints one JSON line a method: the names
of the fused operators that ran and the distances of loss and gradients from plain PyTorch.
"""

from __future__ import annotations

import json
import sys

import torch

from tests.orpheus.batches import packed, rows
from tests.orpheus.test_lora import adapted, step

if __name__ == "__main__":
    batch = packed(rows(lengths=(9, 14)))
    for method in sys.argv[1:]:
        nets = [adapted(method, torch.float32) for _ in range(2)]
        nets[1].use_fused_kernels()
        nets[1].enable_checkpointing()
        (expected_loss, expected, _), (loss, gradients, count) = (
            step(net, autocast=False, batch=batch) for net in nets
        )
        apart = max(((gradients[n] - e).norm() / e.norm()).item() for n, e in expected.items())
        ran = {name.split("::")[1]: times for name, times in count.items() if name.startswith("tts_train::")}
        print(json.dumps([method, ran, abs(loss - expected_loss), apart]))
