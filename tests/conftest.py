"""What test modules leave behind: nothing, unless a test failed; their order; where tests of a GPU run; forks."""

from __future__ import annotations

import gc
import logging
import shutil
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_LONGEST = (
    "test_gpu_run.py",
    "orpheus/test_clients.py",
    "orpheus/test_demo.py",
    "gpt_sovits/test_sovits_parity.py",
    "gpt_sovits/test_demo.py",
    "orpheus/test_fsdp.py",
    "orpheus/test_dpo.py",
    "test_host_reads.py",
    "gpt_sovits/test_plan.py",
    "core/run/test_continuation.py",
    "gpt_sovits/test_processes.py",
    "qwen3_tts/test_plans.py",
    "qwen3_tts/test_speed_of_speech.py",
    "qwen3_tts/test_training.py",
    "qwen3_tts/test_interop.py",
    "orpheus/test_plan.py",
    "orpheus/test_real_voice.py",
    "gpt_sovits/test_real_voice.py",
    "core/run/test_faults.py",
    "test_tour.py",
    "core/memory/test_quality.py",
    "core/scoring/test_eval_command.py",
    "orpheus/test_sample.py",
    "gpt_sovits/test_takes.py",
)
"""Modules of more than half a minute, longest first."""


@pytest.fixture(scope="module", autouse=True)
def _folders_of_a_module_go_with_it(tmp_path_factory, request):
    """Checkpoints of a module's runs would otherwise stay until the end, 13 GB of them for the whole suite."""
    base, failed = tmp_path_factory.getbasetemp(), request.session.testsfailed
    before = set(base.iterdir())
    yield
    if request.session.testsfailed == failed:
        for left in set(base.iterdir()) - before:
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


@pytest.fixture(scope="module", autouse=True)
def _loggers_are_left_as_they_were(request):
    """Fail a module after which messages are missing: which tests would see it depends on their order."""
    yield
    for name in ("tts_train", "tts_train_orpheus", "tts_train_gpt_sovits", "tts_train_qwen3_tts"):
        logger = logging.getLogger(name)
        assert logger.level <= logging.INFO, f"{request.node.nodeid} left the logger {name} at level {logger.level}"
        assert not logger.disabled, f"{request.node.nodeid} disabled the logger {name}"


def pytest_sessionstart():
    """Start autograd before any test plans on shapes of a GPU.

    Its first backward starts a thread for each device, also for the one that torch pretends to have from then on; and
    children that tests fork later could not train: "Unable to handle autograd's threading in combination with fork".
    """
    import torch

    torch.ones(1, requires_grad=True).sum().backward()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keep what is imported out of the garbage collector's sight: it would walk through millions of objects."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Begin with the longest modules, then those with slow tests, so that none is left to one process at the end.

    With ``--dist loadfile`` xdist hands modules out in this order, as ``make test`` asks it to.
    """
    places = {name: place for place, name in enumerate(_LONGEST)}
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def place(item):
        return places.get(item.path.relative_to(_TESTS).as_posix(), len(places) + (item.path not in slow))

    items.sort(key=place)
    _leave_out_what_needs_a_gpu(items)


def _leave_out_what_needs_a_gpu(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
