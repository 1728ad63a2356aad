"""Two processes train as one: losses, weights, checkpoints, exports and errors, of fsdp and of ddp."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from tests.core.pair import cut_back, in_pair
from tests.orpheus.fsdp_cases import Case, steps, train
from tts_train.run.checkpoint import open_checkpoint
from tts_train_orpheus.jobs import OrpheusHf as HfExport

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FULL = Case()
LORA = Case(method="lora", fsdp={"checkpoint": "sharded"})
MANY = Case(accumulate=2, checkpointing=True, fsdp={"shard": "gradients", "prefetch": 2})
MIXED = Case(precision="bf16-mixed")
HALF = Case(precision="bf16-true", fsdp={"replicas": 2})
SCALED = Case(precision="16-mixed")
EIGHT_BIT = Case(precision="bf16-mixed", float8="rowwise")
ONE = {"full": FULL, "lora": LORA, "many": MANY, "mixed": MIXED, "half": HALF, "scaled": SCALED, "float8": EIGHT_BIT}
TWO = {
    **ONE,
    "offloaded": Case(fsdp={"cpu_offload": True, "wrap": "size", "min_parameters": 1000}),
    "sharded": Case(fsdp={"checkpoint": "sharded", "wrap": "none"}),
    "ddp": Case(strategy="ddp"),
    "ddp-lora": replace(LORA, strategy="ddp"),
    "ddp-many": replace(MANY, strategy="ddp"),
}
EIGHT = Case(optimizer="adamw8bit", fsdp={"checkpoint": "sharded"})
AGAIN = {"eight-again": EIGHT, "eight-again-full": replace(EIGHT, fsdp={}), "sharded-again": TWO["sharded"]}
SAME_AS = {"offloaded": "full", "sharded": "full", "ddp": "full", "ddp-lora": "lora", "ddp-many": "many"}
BROKEN = {
    "broken": (FULL, "0:model."),
    "broken-shard": (TWO["sharded"], "1:model-00002"),
    "broken-ddp": (TWO["ddp"], "0:model."),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fsdp")


@pytest.fixture(scope="module")
def one(folder):
    return {name: train(case, folder / f"one-{name}") for name, case in ONE.items()}


@pytest.fixture(scope="module")
def pair(folder, one):
    cut_back(folder / "one-full", folder / "one-to-two", last=4)
    calls = [{"case": asdict(case), "run": name} for name, case in TWO.items()]
    calls.append({"case": asdict(FULL), "run": "one-to-two"})
    calls.append({"case": asdict(EIGHT), "run": "eight"})
    for run, case in AGAIN.items():
        calls += [{"case": asdict(replace(case, steps=last)), "run": run, "name": f"{run}-{last}"} for last in (2, 4)]
    calls += [{"case": asdict(case), "run": name, "break_after": at} for name, (case, at) in BROKEN.items()]
    ranks = in_pair("tests.orpheus.fsdp_cases", folder, calls)
    return {call.get("name", call["run"]): [seen[number] for seen in ranks] for number, call in enumerate(calls)}


@pytest.mark.parametrize("name", TWO)
def test_losses_and_weights_are_those_of_one_process(name, one, pair, folder):
    same = SAME_AS.get(name, name.removeprefix("ddp-"))
    case = TWO[name]
    expected, found = steps(case, one[same], 1), steps(case, pair[name][0], 2)
    half = case.precision != "32-true"
    assert found == pytest.approx(expected, rel=2e-3 if half else 2e-6)
    assert expected[-1] < expected[0] - 0.05
    weights, reference = (open_checkpoint(folder / run).weights() for run in (name, f"one-{same}"))
    assert weights.keys() == reference.keys()
    for key, value in reference.items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=4e-2 if half else 1e-5, msg=key)


@pytest.mark.parametrize("name", TWO)
def test_validations_are_those_of_one_process(name, one, pair):
    expected = one[SAME_AS.get(name, name.removeprefix("ddp-"))]["validations"]
    half = TWO[name].precision != "32-true"
    for seen in pair[name]:
        assert len(seen["validations"]) == len(expected) == 2
        for found, wanted in zip(seen["validations"], expected, strict=True):
            assert found.keys() == wanted.keys()
            for figure in ("val/loss",) if half else wanted:  # in 16 bits a token or two may be judged otherwise
                assert found[figure] == pytest.approx(wanted[figure], rel=5e-3 if half else 1e-5, abs=1e-6), figure


@pytest.mark.parametrize("name", TWO)
def test_the_batches_of_an_epoch_are_dealt_out_in_turn(name, one, pair):
    first, second = (seen["ids"] for seen in pair[name])
    assert [key for both in zip(first, second, strict=True) for key in both] == one[
        SAME_AS.get(name, name.removeprefix("ddp-"))
    ]["ids"]


def test_each_process_holds_its_share(pair):
    for seen in pair["full"]:
        facts = seen["facts"]
        assert facts["tied"]
        assert facts["sharded"] == facts["parameters"]
        assert facts["held"] == pytest.approx(facts["whole"] / 2, rel=1e-3)
    assert pair["ddp"][0]["facts"]["sharded"] == 0


@pytest.mark.parametrize("run", ["full", "sharded", "ddp"])
def test_one_process_continues_what_two_began(run, one, pair, folder):
    cut_back(folder / run, folder / f"{run}-to-one", last=4)
    seen = train(FULL, folder / f"{run}-to-one")
    assert seen["ids"] == one["full"]["ids"][4:]
    assert steps(FULL, seen, 1) == pytest.approx(steps(FULL, one["full"], 1)[2:], rel=2e-6)


def test_two_processes_continue_what_one_began(one, pair):
    assert steps(FULL, pair["one-to-two"][0], 2) == pytest.approx(steps(FULL, one["full"], 1)[2:], rel=2e-6)
    assert [seen["ids"] for seen in pair["one-to-two"]] == [one["full"]["ids"][4::2], one["full"]["ids"][5::2]]


@pytest.mark.parametrize("run", AGAIN)
def test_two_processes_continue_exactly(run, pair, folder):
    whole = "sharded" if run == "sharded-again" else "eight"
    for rank in range(2):
        parts = [pair[f"{run}-{last}"][rank]["losses"] for last in (2, 4)]
        assert parts[0] + parts[1] == pair[whole][rank]["losses"]
    weights, expected = (open_checkpoint(folder / name).weights() for name in (run, whole))
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_a_sharded_checkpoint_has_a_file_for_each_process_and_no_pickle(pair, folder):
    files = {path.name for path in (folder / "sharded" / "checkpoints" / "step-000004").iterdir()}
    assert {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "MANIFEST.json"} <= files
    assert all(name.endswith((".safetensors", ".json")) for name in files)


def test_the_gradient_scaler_is_kept(pair, folder):
    state = open_checkpoint(folder / "scaled").state("MixedPrecision")["MixedPrecision"]
    assert state["scale"] == 128.0
    assert state["_growth_tracker"] == SCALED.steps


def test_the_export_of_a_sharded_checkpoint_is_that_of_a_plain_one(pair, folder):
    from safetensors.torch import load_file

    weights = []
    for run in ("sharded", "full"):
        HfExport(source=folder / run, out=folder / f"{run}-hf", tokenizer="tiny", dtype="fp32").run()
        weights.append(load_file(folder / f"{run}-hf" / "model.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    for key in weights[0]:
        # The two runs gather in other orders (blocks, none), so their last digits differ, and no more.
        torch.testing.assert_close(weights[0][key], weights[1][key], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", BROKEN)
def test_a_disk_that_refuses_one_process_ends_all_of_them(name, pair, folder):
    where = int(BROKEN[name][1][0])
    errors = [seen["error"] for seen in pair[name]]
    assert all(error.startswith("DiskError") for error in errors)
    assert "No space left on device" in errors[where]
    assert "Another process" in errors[1 - where]
    assert not [path for path in (folder / name / "checkpoints").iterdir() if path.name.startswith((".tmp", "step"))]
