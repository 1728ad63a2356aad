"""Parts of the acceptance run's blocks that need no card."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_tests_that_began_and_have_no_outcome_are_named():
    from gpu_blocks.kernels import unfinished

    lines = [
        "scheduling tests via LoadScheduling",
        "tests/core/test_x.py::test_bad[a b] ",
        "tests/core/test_x.py::test_good ",
        "[gw0] [ 25%] PASSED tests/core/test_x.py::test_good ",
        "tests/core/test_x.py::test_hangs[2] ",
        "[gw1] [ 50%] FAILED tests/core/test_x.py::test_bad[a b] ",
    ]
    assert unfinished(lines) == ["unfinished: tests/core/test_x.py::test_hangs[2]"]


def test_a_failure_and_a_duration_are_printed_when_a_test_ends_not_when_all_have(tmp_path):
    from gpu_blocks.telling import CAUSE

    (tmp_path / "test_some.py").write_text(
        "import time\n\n\ndef test_bad():\n    print('planned 5 MiB')\n    assert 1 == 2, 'not the same'\n\n\n"
        "def test_hangs():\n    time.sleep(600)\n"
    )
    words = [sys.executable, "-m", "pytest", "-v", "-p", "gpu_blocks.telling", "-p", "no:cacheprovider", "-n", "2"]
    places = os.pathsep.join((str(BENCHMARKS), os.environ.get("PYTHONPATH", "")))
    running = subprocess.Popen(
        [*words, "-c", os.devnull, "--rootdir", str(tmp_path), "test_some.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": places}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        lines = []
        for line in running.stdout:
            lines.append(line.rstrip())
            if line.startswith(CAUSE):
                break
    finally:
        running.kill()
        running.wait()
    assert lines[-1] == f"{CAUSE}test_some.py::test_bad (call): AssertionError: not the same"
    assert "E       assert 1 == 2" in lines
    assert "planned 5 MiB" in lines
    assert any(line.endswith(" s test_some.py::test_bad") for line in lines)


def test_the_output_layer_in_two_products_is_the_output_layer():
    from gpu_blocks.ceilings import in_two

    chance = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(5, 16, generator=chance), torch.randn(140, 16, generator=chance)
    logits = torch.zeros(5, 192)[:, :140]
    products = in_two(hidden, weight, logits)
    torch.testing.assert_close(products["logits"](), hidden @ weight.T)
    torch.testing.assert_close(products["gradient of the states"](), logits @ weight)
    torch.testing.assert_close(products["gradient of the matrix"](), logits.T @ hidden)


def test_the_watch_for_host_waits_does_not_count_itself():
    from gpu_blocks.profiling import is_wait

    message = "called a synchronizing CUDA operation"
    own = "torch/cuda/__init__.py:1270 set_sync_debug_mode"
    assert is_wait(message, ["torch/_tensor.py:10 item"])
    assert not is_wait(message, ["benchmarks/gpu_blocks/profiling.py:95 before", own])
    assert not is_wait("Synchronization debug mode is a prototype feature and does not yet detect all", [])
    assert not is_wait("something else", [])


def test_a_run_that_is_over_keeps_no_memory_and_is_not_moved(tmp_path):
    from gpu_blocks.fits import left_in_place, release
    from gpu_blocks.job import Job
    from gpu_blocks.watch import Measured
    from lightning.pytorch import LightningModule

    module = LightningModule()
    module.layer = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    module.layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    with left_in_place():
        assert module.to("meta").cpu() is module
        assert module.layer.weight.device.type == "meta", "a copy to host memory would raise"
    trainer = type("Trainer", (), {"optimizers": [optimizer]})()
    release(Job("recipes", "cpu", True, tmp_path, tmp_path), Measured(module=module, trainer=trainer))
    assert sum(parameter.numel() for parameter in module.parameters()) == 0
    assert not optimizer.state
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_phases_of_a_run_add_up():
    from gpu_blocks.watch import Measured

    measured = Measured(called=10.0, started=15.0, begun=[15.0, 17.0], ended=[16.5, 18.0], over=20.0)
    assert measured.phases == {"start": 5.0, "first batch": 1.5, "others": 1.5, "end": 2.0}
    assert Measured(called=10.0, over=11.0).phases == {"all": 1.0}


def test_a_part_that_takes_too_long_is_interrupted():
    from gpu_blocks.timing import limit

    with pytest.raises(TimeoutError, match=r"not done after 0\.05 s"), limit(0.05):
        time.sleep(60)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    with limit(60):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_chain_says_how_it_ended_when_it_does():
    from gpu_blocks.continuation import _told

    def chain(expected):
        code = yield ["fit"]
        if code != expected:
            raise RuntimeError("another code")
        return {"step": "12"}

    ends = {}
    for name, code in (("good", 0), ("bad", 1)):
        told = _told(name, chain(0), ends.__setitem__)
        assert next(told) == ["fit"]
        with pytest.raises((StopIteration, RuntimeError)):
            told.send(code)
    assert ends["good"] == {"step": "12"}
    assert str(ends["bad"]) == "another code"


def test_float32_is_compared_without_tf32_and_the_switch_is_put_back():
    from gpu_blocks.references import drawn_alike

    before = torch.backends.cudnn.allow_tf32
    with drawn_alike(exact=True):
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_every_run_has_a_plan_of_its_own_and_a_goal_only_at_the_roofline_rows_share():
    from gpu_blocks.recipes import RUNS

    assert len({run.name for run in RUNS}) == len(RUNS)
    shares = {run.goal: run.share for run in RUNS if run.goal}
    assert shares == {18_000: 0.2, 12_000: 0.75, 20_000: 0.6, 27_000: 0, 22_000: 0}


def test_kernels_side_by_side_count_once():
    from gpu_blocks.profiling import busy_of

    assert busy_of([(10, 20), (15, 18), (19, 25), (40, 50)]) == (25, 40)
    assert busy_of([(40, 50), (10, 20)]) == (20, 40)
    assert busy_of([]) == (0, 0)


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA A10G", 70),
        ("NVIDIA GeForce RTX 4060", None),
    ],
)
def test_a_card_is_known_by_the_name_that_its_driver_gives(device, peak):
    from gpu_blocks.arithmetic import peak_of

    assert peak_of(device) == peak


def test_utterances_whose_memory_is_held_against_a_plan_are_as_long_as_the_plans(tmp_path):
    from gpu_blocks.sets import PLANNED_CODES, sovits_rows

    from tts_train_gpt_sovits.stages.sovits.data import SovitsData

    data = SovitsData(sovits_rows(tmp_path, count=4, tiny=False, length=PLANNED_CODES), batch_size=2, val_share=0)
    data.setup("fit")
    batch, planned = data.collate([data.train_set[0], data.train_set[1]]), data.sample_batch(2)
    assert batch["codes"].shape == planned["codes"].shape
    assert batch["wave"].shape == planned["wave"].shape


def test_how_far_losses_are_apart_is_told_step_by_step():
    from gpu_blocks.cpu_against_gpu import apart

    expected = [{"train/loss": 10.0, "small": 0.5, "count": 1}, {"train/loss": 10.0}]
    found = [{"train/loss": 10.0, "small": 0.6}, {"train/loss": float("nan")}, {"train/loss": 3.0}]
    steps = apart(found, expected)
    assert steps[0] == {"train/loss": 0.0, "small": pytest.approx(0.1)}
    assert steps[1:] == [{"train/loss": float("inf")}]


def test_references_of_other_options_are_not_held_against_a_card(monkeypatch):
    from gpu_blocks import references

    made = {name: list(case.words) for name, case in references.CASES.items() if case.base in references.CARRIED}
    assert references.fit_these(made)
    assert not references.fit_these({}), "of a folder that does not say"
    assert not references.fit_these(made | {"orpheus lora": ["--model.optimizer.lr", "0.01"]})


def test_a_block_knows_what_time_is_left(tmp_path):
    from gpu_blocks.job import TO_TELL, Job

    job = Job("kernels", "cpu", True, tmp_path, tmp_path, limit=100.0)
    assert 90 - TO_TELL < job.left() <= 100 - TO_TELL
    assert Job("kernels", "cpu", True, tmp_path, tmp_path, limit=2.0).left() == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["orpheus lora", "orpheus qlora"])
def test_a_rounding_stays_one_where_a_card_is_held_against_a_cpu(name, tmp_path, monkeypatch):
    from gpu_blocks import references
    from gpu_blocks.cpu_against_gpu import ALLOWED, apart
    from gpu_blocks.job import Job

    from tts_train.families.token_lm.network import adapters

    monkeypatch.setattr(references, "_one_step", lambda *_: None)  # GPT's base, which is not asked for
    job = Job("references", "cpu", False, tmp_path, tmp_path / "work", carried=tmp_path)
    references.write_bases(job, tmp_path / references.BASES)
    plain, inject = references.losses_of(job, name, "float32"), adapters._inject

    def injected(lm, lora):
        inject(lm, lora)
        chance = torch.Generator().manual_seed(0)
        for key, parameter in lm.named_parameters():
            if ".lora_A" in key:
                parameter.data *= 1 + 1e-6 * torch.randn(parameter.shape, generator=chance)

    monkeypatch.setattr(adapters, "_inject", injected)
    rounded = references.losses_of(job, name, "float32")
    assert max(step["train/loss"] for step in apart(rounded, plain)) < ALLOWED["float32"] / 10

    monkeypatch.setattr(adapters, "_inject", inject)
    monkeypatch.setattr(adapters, "_SEED", 77)
    other = references.losses_of(job, name, "float32")
    assert max(step["train/loss"] for step in apart(other, plain)) > 5 * ALLOWED["float32"], "others are noticed"
