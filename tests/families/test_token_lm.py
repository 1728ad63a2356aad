"""What trains Orpheus trains another language model of codec tokens as well: other ids, one codebook, a Qwen2."""

from __future__ import annotations

import json
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from tests.families.finch import END, FINCH, LAYOUT, START, FinchData, FinchModule, tiny_config, write_rows
from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.errors import ConfigError, DataError
from tts_train.families.token_lm.data.batch import Document, pack_documents, pad_documents
from tts_train.families.token_lm.data.token_rows import inspect_rows
from tts_train.families.token_lm.network.adapters import LoraOptions, apply_method, merge, trainable_parameters
from tts_train.families.token_lm.network.late import late_weights
from tts_train.families.token_lm.network.network import HeadOptions, TokenNetwork
from tts_train.families.token_lm.network.restore import load_initial, load_trained
from tts_train.families.token_lm.network.start import TinyOptions, base_config, empty_network, load_base
from tts_train.memory.step.step import run_steps
from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train.run.checkpoint import CARD_KEY, RunCard
from tts_train.run.directory import RunDirectory
from tts_train.training.survive.continuation import ExactContinuation

KEPT = "half.ckpt"
SMALL = TinyOptions(hidden=32, layers=2, heads=2, kv_heads=1, mlp=48)


def module(method="full", *, of=FinchModule, **changes):
    options = {
        "lora": LoraOptions(rank=4, alpha=8.0),
        "optimizer": OptimizerOptions(lr=1e-2),
        "schedule": ScheduleOptions("constant"),
        "head": HeadOptions(chunk_tokens=64, softmax="slot"),
        "tiny": SMALL,
    }
    return of("tiny", method, **(options | changes))


class Keep(lightning.Callback):
    """Keep a checkpoint in the middle of an epoch."""

    def on_train_batch_end(self, trainer, *args):
        path = Path(trainer.default_root_dir) / KEPT
        if trainer.global_step == 4 and not path.exists():
            trainer.save_checkpoint(path)


def train(model, data, tmp_path, *, steps=6, **options):
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        callbacks=[ExactContinuation(0), Keep()],
    )
    trainer.fit(model, datamodule=data, **options)
    return trainer


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return str(write_rows(tmp_path_factory.mktemp("finch") / "rows.parquet"))


def documents(count=3):
    made, chance = [], np.random.default_rng(1)
    for number in range(count):
        audio = LAYOUT.codes_to_tokens([chance.integers(0, LAYOUT.codebook_size, 5 + number)])
        made.append(Document(str(number), np.concatenate([[256, 72, 105, START], audio, [END]])))
    return made


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_it_trains_is_validated_and_goes_on(rows, tmp_path, method):
    whole, again = module(method), module(method)
    trainer = train(whole, FinchData(rows, max_tokens=160, val_share=0.2), tmp_path)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert {"train/loss", "val/loss", "val/loss/text", "val/slot_accuracy/0", "val/code_use/0"} <= set(figures)
    assert "val/slot_accuracy/1" not in figures
    assert all(np.isfinite(value) for value in figures.values())

    kept = torch.load(tmp_path / KEPT, weights_only=True)
    assert kept["network_config"]["model_type"] == "qwen2"
    assert method == "full" or all(".lora_" in name for name in kept["state_dict"])
    train(
        again,
        FinchData(rows, max_tokens=160, val_share=0.2),
        tmp_path,
        ckpt_path=tmp_path / KEPT,
        weights_only=True,
    )
    for (name, one), other in zip(whole.network.named_parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("softmax", ["full", "audio", "slot"])
def test_losses_are_those_of_transformers(softmax):
    """Biases of queries, keys and values included, packed or padded, and with a softmax of some rows only."""
    lm = with_biases()
    network = TokenNetwork(lm, LAYOUT, HeadOptions(softmax=softmax)).train()
    packed = pack_documents(documents(), LAYOUT)
    losses = network(packed).head.losses
    assert torch.allclose(losses, network(pad_documents(documents(), LAYOUT)).head.losses, atol=1e-5)
    expected = []
    for document in documents():
        with torch.no_grad():
            logits = lm(torch.from_numpy(document.input_ids)[None]).logits[0, :-1]
        for row, target in zip(logits, document.input_ids[1:].tolist(), strict=True):
            audio = target >= LAYOUT.audio_base or target == END
            low = LAYOUT.added_base if softmax != "full" and (audio or (softmax == "slot" and target >= 260)) else 0
            seen = torch.zeros(LAYOUT.vocab_size, dtype=torch.bool)
            seen[low:] = True
            if softmax == "slot" and audio:
                seen[: LAYOUT.audio_base], seen[END] = False, True
            elif softmax == "slot" and low:
                seen[LAYOUT.audio_base :] = False
            expected.append(torch.logsumexp(row[seen], 0) - row[target])
    assert torch.allclose(losses, torch.stack(expected), atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_is_the_base_of_the_next(tmp_path, method):
    model = module(method)
    model.network = TokenNetwork(load_base(FINCH, "tiny", tiny=SMALL), LAYOUT)
    apply_method(model.network, method, model.lora)
    for parameter in trainable_parameters(model.network).values():
        parameter.data += 0.05
    checkpoint = {"state_dict": model.state_dict(), "global_step": 3}
    model.on_save_checkpoint(checkpoint)
    lora = {"rank": 4, "alpha": 8.0}
    config = {"model": {"init_from": "tiny", "method": method, "lora": lora, "tiny": vars(SMALL)}, "data": {}}
    for backend in ("finch", "wren"):
        checkpoint[CARD_KEY] = RunCard(backend=backend, stage="lm", config=config).as_dict()
        run = RunDirectory(tmp_path / backend)
        run.create()
        DirectoryCheckpointIO().save_checkpoint(checkpoint, run.step_path(3))
    back = load_trained(FINCH, config["model"], checkpoint["state_dict"], description=checkpoint["network_config"])
    started = TokenNetwork(load_initial(FINCH, str(tmp_path / "finch")), LAYOUT)
    batch = pack_documents(documents(), LAYOUT)
    with torch.no_grad():
        loss = model.network.eval()(batch).loss
        assert torch.equal(back(batch).loss, loss)
        assert torch.allclose(started.eval()(batch).loss, loss, atol=1e-5)
    with pytest.raises(DataError, match="run of backend 'wren', and this is Finch"):
        load_initial(FINCH, str(tmp_path / "wren"))


def test_a_folder_is_a_base_by_its_kind_and_rows(tmp_path):
    lm = load_base(FINCH, "tiny", tiny=SMALL)
    lm.save_pretrained(tmp_path / "qwen2")
    read = load_base(FINCH, str(tmp_path / "qwen2"))
    assert all(torch.equal(one, other) for one, other in zip(lm.parameters(), read.parameters(), strict=True))
    assert {"network.lm.lm_head.weight", "network.lm.model.layers.0.self_attn.q_proj.bias"} <= set(
        late_weights(FINCH, str(tmp_path / "qwen2"), TokenNetwork(read, LAYOUT))
    )
    config = json.loads((tmp_path / "qwen2" / "config.json").read_text(encoding="utf-8"))
    for change, why in [
        ({"model_type": "llama"}, "is a 'llama' model, and Finch is a 'qwen2'"),
        ({"vocab_size": 399}, "399 vocabulary rows. Finch has 400; choose a checkpoint of Finch"),
        (
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "layer_types": None},
            "sliding window",
        ),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
        with pytest.raises(ConfigError, match=why):
            base_config(FINCH, str(tmp_path))
    with pytest.raises(ConfigError, match=r"is no folder\. Give a local folder with config\.json") as refused:
        base_config(FINCH, str(tmp_path / "nothing"))
    assert "canopylabs" not in str(refused.value)


def test_a_qwen3_computes_as_in_transformers():
    sizes = tiny_config(SMALL).to_dict()
    for name in ("model_type", "layer_types", "architectures"):
        sizes.pop(name, None)
    lm = empty_network(Qwen3Config(**sizes, head_dim=16), dtype=torch.float32)
    for parameter in lm.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    network, batch = TokenNetwork(lm, LAYOUT), pad_documents(documents(), LAYOUT)
    plain = AutoModelForCausalLM.from_config(lm.config, attn_implementation="eager")
    plain.load_state_dict(lm.state_dict())
    with torch.no_grad():
        labels = batch["input_ids"].masked_fill(batch["targets"].roll(1, 1) == -100, -100)
        expected = plain(input_ids=batch["input_ids"], labels=labels).loss
        assert torch.allclose(network.eval()(batch).loss, expected, atol=1e-5)


def test_what_only_a_llama_has_is_refused_or_left_out():
    with pytest.raises(ConfigError, match=r"'llama' models, and this is a 'qwen2'.*--model\.kernels auto"):
        TokenNetwork(load_base(FINCH, "tiny", tiny=SMALL), LAYOUT).use_fused_kernels()
    network = TokenNetwork(load_base(FINCH, "tiny", tiny=SMALL), LAYOUT)
    network.use_fused_kernels(layers=False)
    assert network.fused


def with_biases():
    """Return a network whose biases of queries, keys and values are as large as their products."""
    lm = load_base(FINCH, "tiny", tiny=SMALL)
    for name, parameter in lm.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    return lm


@pytest.mark.parametrize("method", ["lora", "qlora", "lora-8bit"])
def test_adapters_leave_biases_as_they_are(method):
    network, batch = TokenNetwork(with_biases(), LAYOUT).eval(), pack_documents(documents(), LAYOUT)
    with torch.no_grad():
        plain = network(batch).head.losses
        without = TokenNetwork(load_base(FINCH, "tiny", tiny=SMALL), LAYOUT)  # the same weights, and biases of zero
        lost = (without.eval()(batch).head.losses - plain).abs().max()
        apply_method(network, method, LoraOptions(rank=4))
        assert not any(name.endswith("bias") for name in trainable_parameters(network))
        rounded = (network(batch).head.losses - plain).abs().max()
        assert rounded < {"lora": 1e-5, "qlora": lost / 2, "lora-8bit": lost / 40}[method]
        for parameter in trainable_parameters(network).values():
            parameter.data += 0.05
        adapted = network(batch).head.losses
        assert not torch.allclose(adapted, plain, atol=1e-2)
        if method == "lora":
            merge(network)
            assert torch.allclose(network(batch).head.losses, adapted, atol=1e-5)


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_its_memory_is_counted_on_shapes(method):
    data = FinchData("nowhere", max_tokens=128)
    assert data.sample_batch(128)["lengths"] == [60, 60, 8]
    steps = run_steps(module(method), data.sample_batch, lambda done: None if done else 128, {}, device="cpu")
    assert steps[0].peak_bytes > 0


def test_rows_of_one_codebook_are_inspected():
    good = [256, 72, START, 272, 399, END]
    cases = [good, [256, 72, START, 272, 399], [256, START, 272, 270, END], [256, START, 400, END]]
    found = inspect_rows(np.concatenate(cases), [len(case) for case in cases], LAYOUT)
    assert found.faults[0] == ""
    assert found.prompts[0] == 3
    assert found.frames[0] == 2
    for fault, part in zip(
        found.faults[1:], ("no end of speech (261)", "between start and end", "outside of 0..399"), strict=True
    ):
        assert part in fault
