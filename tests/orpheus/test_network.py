"""The network's loss: packed, padded and one by one; its base; its adapters; the reference's figures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from tests.core.nn.largest import LargestTensor
from tests.orpheus.batches import LENGTHS, packed, padded, rows
from tests.orpheus.family import OrpheusNetwork, base_config, load_base
from tests.orpheus.parity_llama import check
from tts_train.errors import ConfigError
from tts_train.families.token_lm.network.adapters import (
    LoraOptions,
    adapter_weights,
    apply_method,
    merge,
    trainable_parameters,
)
from tts_train.families.token_lm.network.network import HeadOptions
from tts_train.families.token_lm.network.start import TinyOptions, empty_network
from tts_train_orpheus import layout

GOLDEN = Path(__file__).parent / "golden"
ORPHEUS_3B = TinyOptions(hidden=3072, layers=28, heads=24, kv_heads=8, mlp=8192)


def network(**head) -> OrpheusNetwork:
    return OrpheusNetwork(load_base("tiny"), HeadOptions(**head))


def gradients(net, batches):
    net.zero_grad()
    losses = [net(batch).loss_sum for batch in batches]
    sum(losses).backward()
    return sum(losses).item(), {name: parameter.grad.clone() for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("name", ["llama_tiny", "llama_tiny_untied"])
def test_reference_figures(name):
    figures = list(check(json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))))
    assert len(figures) > 30
    assert [str(figure) for figure in figures if not figure.ok] == []


def test_a_salted_reference_gives_other_figures():
    data = json.loads((GOLDEN / "llama_tiny.json").read_text(encoding="utf-8"))
    figures = list(check({**data, "salt": "other", "new": 1}))
    assert not next(figure for figure in figures if figure.name == "single[0].loss_mean").ok
    assert not next(figure for figure in figures if figure.name == "new").ok


def test_packed_padded_and_one_by_one_agree():
    net, documents = network(chunk_tokens=32), rows()
    expected_loss, expected = gradients(net, [packed([document]) for document in documents])
    for batch in (packed(documents), padded(documents)):
        assert net(batch).count == sum(LENGTHS) - len(LENGTHS)
        loss, grads = gradients(net, [batch])
        assert loss == pytest.approx(expected_loss, rel=1e-6)
        for name, grad in grads.items():
            torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-5 * expected[name].abs().max().item())


def test_the_loss_is_that_of_transformers():
    net, document = network(), rows()[0]
    batch = packed([document])
    plain = LlamaForCausalLM._from_config(net.config, attn_implementation="eager")
    plain.load_state_dict(net.lm.state_dict())
    logits = plain(document[None]).logits[0]
    assert net(batch).loss.item() == pytest.approx(cross_entropy(logits[:-1], document[1:]).item(), rel=1e-6)


def test_recomputing_layers_changes_nothing():
    net, batch = network(), packed(rows())
    expected_loss, expected = gradients(net, [batch])
    net.enable_checkpointing()
    loss, grads = gradients(net, [batch])
    assert loss == expected_loss
    assert all(torch.equal(grads[name], expected[name]) for name in expected)


def test_logits_never_exist_at_once():
    net, batch = network(chunk_tokens=16), packed(rows())
    with LargestTensor() as largest:
        net(batch).loss.backward()
    table = layout.VOCAB_SIZE * 64
    assert largest.elements == max(16 * layout.VOCAB_SIZE, table)
    assert largest.elements < net(batch).count * layout.VOCAB_SIZE


@pytest.mark.parametrize("softmax", ["audio", "slot"])
def test_restricted_softmax_is_for_training_only(softmax):
    batch, full, held = packed(rows()), network(), network(softmax=softmax)
    everywhere, restricted = full(batch).head, held(batch).head
    audio = (layout.slot_of(everywhere.targets) >= 0) | (everywhere.targets == layout.END_OF_SPEECH)
    added = (everywhere.targets >= layout.CUSTOM_BASE) & ~audio
    assert added.any()
    if softmax == "slot":
        assert (restricted.losses[added] < everywhere.losses[added] - 1).all()
    same = ~audio & (~added if softmax == "slot" else True)
    assert torch.equal(restricted.losses[same], everywhere.losses[same])
    size = {"audio": 28684, "slot": 4097}[softmax]
    assert (restricted.losses[audio] < everywhere.losses[audio] - 1).all()
    # Untrained logits are unit normals, whose exponentials have the mean exp(1/2).
    assert restricted.losses[audio].mean().item() == pytest.approx(math.log(size) + 0.5, abs=0.1)
    slots = layout.slot_of(restricted.targets[audio])
    predicted = layout.slot_of(restricted.predictions[audio])
    if softmax == "slot":
        may_end = (slots <= 0) & (restricted.predictions[audio] == layout.END_OF_SPEECH)
        assert ((predicted == slots.clamp(min=0)) | may_end).all()
    assert torch.equal(held.eval()(batch).head.losses, full.eval()(batch).head.losses)


def test_tiny_is_its_seed_alone():
    torch.manual_seed(1)
    first, state = load_base("tiny").state_dict(), torch.get_rng_state()
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    second = load_base("tiny").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = load_base("tiny", tiny=TinyOptions(seed=1)).state_dict()
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    assert load_base("tiny", dtype=torch.bfloat16).model.norm.weight.dtype == torch.bfloat16


def test_rotary_frequencies_stay_in_float32_and_are_orpheus_own():
    expected = json.loads((GOLDEN / "rope_orpheus.json").read_text(encoding="utf-8"))["inv_freq"]
    lm = empty_network(base_config("tiny", TinyOptions(hidden=512, heads=4)), dtype=torch.bfloat16)
    net = OrpheusNetwork(lm).to(torch.bfloat16).to("cpu")
    got = net.lm.model.rotary_emb.inv_freq
    assert net.lm.model.norm.weight.dtype == torch.bfloat16
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torch.tensor(expected))


def save_base(folder, vocabulary, **changes):
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        **changes,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("tied", [True, False])
def test_a_base_without_the_audio_row_gets_one(tmp_path, caplog, tied):
    caplog.set_level("INFO")
    source = save_base(tmp_path, layout.VOCAB_SIZE - 1, tie_word_embeddings=tied)
    before = LlamaForCausalLM.from_pretrained(source)
    net = OrpheusNetwork(load_base(source))
    assert base_config(source).vocab_size == net.config.vocab_size == layout.VOCAB_SIZE
    assert net.tied == tied
    for old, new in [
        (before.get_input_embeddings().weight, net.lm.get_input_embeddings().weight),
        (before.lm_head.weight, net.lm.lm_head.weight),
    ]:
        assert new.shape[0] == layout.VOCAB_SIZE
        assert torch.equal(new[:-1], old)
        torch.testing.assert_close(new[-1], old.mean(dim=0))
    assert "156939 vocabulary rows" in caplog.text
    assert net(packed(rows())).loss.isfinite()


def test_other_bases_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="128256 vocabulary rows"):
        load_base(save_base(tmp_path / "llama", 128256))
    with pytest.raises(ConfigError, match="is no folder"):
        base_config(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        base_config(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="--format merged"):
        base_config(str(tmp_path))
    with pytest.raises(ConfigError, match=r"--model\.tiny"):
        TinyOptions(heads=3)
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt" / "config.json").write_text(json.dumps({"model_type": "gpt2"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="gpt2"):
        base_config(str(tmp_path / "gpt"))


def test_sizes_of_the_real_model():
    net = OrpheusNetwork(empty_network(base_config("tiny", ORPHEUS_3B), dtype=torch.bfloat16, device="meta"))
    assert sum(p.numel() for p in net.parameters()) == 3_300_867_072
    apply_method(net, "lora", LoraOptions(rank=64))
    assert sum(p.numel() for p in trainable_parameters(net).values()) == 97_255_424


@pytest.mark.parametrize("method", ["lora", "qlora", "lora-8bit"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_begin_as_the_base_and_train(method, dtype):
    net, batch = OrpheusNetwork(load_base("tiny", dtype=dtype), HeadOptions(chunk_tokens=64)), packed(rows())
    base = net(batch).loss.item()
    apply_method(net, method, LoraOptions(rank=8, alpha=16))
    trained = trainable_parameters(net)
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert all(".lora_" in name for name in trained)
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    # Going to evaluation and back must leave a quantised base as it was.
    history = [net.eval()(batch).loss.item()]
    for _ in range(6):
        optimizer.zero_grad()
        loss = net.train()(batch).loss
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[0] == pytest.approx(base, abs=0.02)
    assert history[1] == pytest.approx(history[0], abs=1e-3)
    assert history[-1] < history[1] - 0.1


def test_merged_adapters_say_the_same():
    net, batch = network(), packed(rows())
    apply_method(net, "lora", LoraOptions(rank=4))
    assert next(iter(adapter_weights(net))) == "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    for name, parameter in trainable_parameters(net).items():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    expected = net(batch).head.losses
    merge(net)
    assert not [name for name, _ in net.named_parameters() if "lora" in name or "base_layer" in name]
    torch.testing.assert_close(net(batch).head.losses, expected, rtol=1e-5, atol=1e-5)


def test_a_quantised_base_is_not_merged_into():
    net = network()
    apply_method(net, "qlora", LoraOptions(rank=2))
    with pytest.raises(ConfigError, match="unquantised"):
        merge(net)


def test_a_trained_tied_embedding_is_one_copy():
    net, lora = network(), LoraOptions(rank=2, train_embedding=True, train_head=True)
    apply_method(net, "lora", lora)
    assert net.tied
    full = [name for name in trainable_parameters(net) if ".lora_" not in name]
    assert full == ["lm.model.embed_tokens.weight"]
    with pytest.raises(ConfigError, match="the same value"):
        apply_method(network(), "lora", LoraOptions(train_head=True))


def test_what_cannot_be_done_is_refused_by_name():
    with pytest.raises(ConfigError, match="cannot run on mps"):
        apply_method(network(), "qlora", LoraOptions(), device="mps")
    with pytest.raises(ConfigError, match=r"--model\.method"):
        apply_method(network(), "dora", LoraOptions())
    for bad in ({"rank": 0}, {"dropout": 1.0}, {"targets": ("lm_head",)}, {"alpha": 0.0}):
        with pytest.raises(ConfigError, match=rf"--model\.lora\.{next(iter(bad))}"):
            LoraOptions(**bad)
    for bad in ({"chunk_tokens": 0}, {"softmax": "none"}):
        with pytest.raises(ConfigError, match=rf"--model\.head\.{next(iter(bad))}"):
            HeadOptions(**bad)
