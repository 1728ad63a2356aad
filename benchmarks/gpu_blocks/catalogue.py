"""Which blocks there are, how long each takes on a card such as an H100, and which of them make a call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """One block, run by ``run(job)`` of the module ``gpu_blocks.<name>``."""

    step: int
    """Its number in the table of ``gpu.py``."""
    name: str
    seconds: int
    """Time planned on an H100."""
    what: str
    resumes: bool = False
    """Whether it skips the parts of ``job.finished``, so that a further process can do what is left of it."""

    @property
    def limit(self) -> int:
        """Seconds after which its processes are ended: half as long again as planned, and 15 s to start."""
        return self.seconds * 3 // 2 + 15


BLOCKS = (
    Block(0, "start", 20, "versions, doctor, bitsandbytes' self-check, import of everything"),
    Block(1, "ceilings", 20, "bandwidth, products, the output layer's strides, the 8-bit optimiser's kernel"),
    Block(2, "attention", 25, "which kernel each attention takes, and cuDNN's beside it, at a new shape and again"),
    Block(3, "kernels", 80, "tests marked gpu; attention, output layer, rounding, 8 and 4 bits against references"),
    Block(4, "cpu_against_gpu", 55, "20 steps (SoVITS: 4) of every stage from the same files, on both"),
    Block(5, "continuation", 60, "killed and continued against uninterrupted, by the hashes of the checkpoints"),
    Block(6, "recipes", 90, "every recipe of the 3.3 B model: tokens/s, share of the peak, memory against plan", True),
    Block(7, "profiling", 48, "kernels, idle time, launches and host waits of single steps"),
    Block(8, "peers", 50, "transformers' Trainer with PEFT on the same rows"),
    Block(9, "levers", 60, "each lever by itself on full and LoRA", True),
    Block(10, "sovits", 45, "GPT-SoVITS' stages at the released sizes"),
    Block(11, "speech", 50, "generation, listening, GPT codes, SNAC"),
    Block(12, "saves", 30, "saving, continuing, max_tokens auto, what does not fit"),
)
"""Step 13, the table, is written by the process that starts the others."""
NAMES = tuple(block.name for block in BLOCKS)
BY_NAME = {block.name: block for block in BLOCKS}

FIRST = ("start", "cpu_against_gpu", "continuation", "kernels", "profiling")
"""What no card has told yet, or not to the end: reached even where all before it takes as long as it may."""
CALLS = {
    "A": (*FIRST, "peers", "saves", "ceilings"),
    "B": ("speech", "sovits", "levers", "recipes"),
    "one": ("start", "cpu_against_gpu", "continuation", "kernels", "speech", "recipes"),
}
"""In the order in which they run; ``ALONE`` runs where it is named with ``--blocks``."""
ALONE = ("attention",)
"""What an H200 has told to the end, and only another kind of card would tell anew."""
BUDGETS = {"A": 450, "B": 300, "one": 540}
"""Seconds of a call, start to table."""
TO_START, TO_WRITE = 30, 5
"""Seconds of them that go to installing the wheels and asking for versions, and to the table."""
LEAST = 30
"""A block is begun if so many seconds are left, even where it needs more: its parts are recorded one by one."""
