"""The gguf export, read with the format's own reader and by arithmetic written down here."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.orpheus.family import load_base
from tests.orpheus.trained_runs import STEP, write_run
from tts_train.disk.provenance import read_provenance
from tts_train.errors import ConfigError, MissingExtraError, TTSTrainError
from tts_train.families.token_lm.export.gguf_kinds import kind_of, rounded
from tts_train_orpheus.jobs import OrpheusGguf as GgufExport
from tts_train_orpheus.prompt import encode_text
from tts_train_orpheus.tokenizer import load_tokenizer

gguf = pytest.importorskip("gguf")
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf") / "run"
    return folder, write_run(folder).lm


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "voice"
    report = GgufExport(source=run[0], out=out, dtype="f16").run()
    return out, report, gguf.GGUFReader(out / "voice-f16.gguf")


def field(reader, name):
    return reader.get_field(name).contents()


def test_report_and_provenance(exported):
    out, report, _ = exported
    assert (report["format"], report["verified"], report["files"]) == ("gguf", True, ["voice-f16.gguf"])
    assert report["measured"]["vocabulary"] == 156940
    card = read_provenance(out)
    assert (card.backend, card.format, card.step) == ("orpheus", "gguf", STEP)
    json.dumps(dict(report))


def test_what_llama_cpp_asks_for(exported):
    reader = exported[2]
    wanted = {
        "general.architecture": "llama",
        "general.file_type": 1,
        "llama.vocab_size": 156940,
        "llama.block_count": 2,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 192,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 16,
        "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 500000.0,
        "llama.context_length": 131072,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.bos_token_id": 128000,
        "tokenizer.ggml.eos_token_id": 128258,
        "tokenizer.ggml.padding_token_id": 128004,
    }
    assert {name: field(reader, name) for name in wanted} == wanted
    assert field(reader, "llama.attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)


def test_one_token_for_each_row(exported):
    reader = exported[2]
    names, types = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    assert len(names) == len(types) == len(set(names)) == 156940
    assert (names[128258], names[128266], names[156939]) == ("<custom_token_2>", "<custom_token_10>", "<|audio|>")
    # Control tokens are hidden by llama.cpp; codes must be printed.
    assert types[128000] == gguf.TokenType.CONTROL
    assert set(types[128266:156938]) == {gguf.TokenType.USER_DEFINED}


def test_the_table_of_tokens_is_a_tokenizer(exported):
    """Built as transformers builds it from a GGUF file; it refuses merges whose result has no id."""
    names, merges = (field(exported[2], f"tokenizer.ggml.{part}") for part in ("tokens", "merges"))
    vocabulary = {name: index for index, name in enumerate(names)}
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(merge.split(" ")) for merge in merges]))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in ("Hello there.", "tara: é, ü <laugh>"):
        assert built.encode(text).ids == encode_text(load_tokenizer("tiny"), text)[1:]


def test_rotary_rows_lie_in_pairs(run, exported):
    """Row 2i and 2i+1 of a head are partners in llama.cpp; in transformers i and i + half."""
    weight = run[1].model.layers[1].self_attn.k_proj.weight
    found = next(tensor for tensor in exported[2].tensors if tensor.name == "blk.1.attn_k.weight").data
    for head in range(2):
        for i in range(8):
            for side in range(2):
                expected = weight[head * 16 + side * 8 + i].detach().half().numpy()
                assert np.array_equal(found[head * 16 + 2 * i + side], expected)


def test_rotary_factors_are_llama_3s(exported):
    """Wavelengths below 8192 / 4 stay, above 8192 are divided by 32, and between them blended."""
    found = next(tensor for tensor in exported[2].tensors if tensor.name == "rope_freqs.weight").data
    wavelengths = 2 * np.pi * 500000.0 ** (np.arange(8) / 8)
    smooth = (8192 / wavelengths - 1) / 3
    blended = 1 / ((1 - smooth) / 32 + smooth)
    expected = np.where(wavelengths < 2048, 1, np.where(wavelengths > 8192, 32, blended))
    assert np.allclose(found, expected, rtol=1e-5)


def test_a_tied_head_is_stored_once(exported):
    names = {tensor.name for tensor in exported[2].tensors}
    assert "token_embd.weight" in names
    assert "output.weight" not in names
    assert len(names) == 1 + 1 + 2 * 9 + 1


@pytest.mark.slow
def test_q8_0_rounds_as_it_should(run, tmp_path):
    out = tmp_path / "voice.gguf"
    report = GgufExport(source=run[0], out=out, dtype="q8_0").run()
    assert report["files"] == ["voice.gguf"]
    tensor = next(t for t in gguf.GGUFReader(out).tensors if t.name == "blk.0.ffn_down.weight")
    found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    weight = run[1].model.layers[0].mlp.down_proj.weight.detach().numpy()
    assert 0 < np.abs(weight - found).max() <= (1 / 254 + 2.0**-10) * np.abs(weight).max()
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(("name", "lost"), [("Q4_K", 0.0725), ("Q6_K", 0.0180)])
def test_four_and_six_bits_are_read_by_the_formats_own_reader(name, lost):
    """Normal weights lose what ggml's own packing loses (0.0714 and 0.0178 of their size)."""
    kind = gguf.GGMLQuantizationType[name]
    weight = 0.02 * torch.randn(200, 2048, generator=torch.Generator().manual_seed(0))
    weight[3, 256:512] = 0
    packed = rounded(weight, kind)
    found = torch.from_numpy(gguf.quants.dequantize(packed, kind))
    assert float((found - weight).norm() / weight.norm()) < lost
    assert not found[3, 256:512].any()
    # Matrices are packed in parts, and those do not depend on each other.
    assert np.array_equal(packed[130:], rounded(weight[130:], kind))


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K"])
@pytest.mark.parametrize("scale", [1e-20, 1e-9, 1e-4, 1.0, 1e4])
def test_unusual_blocks_stay_near(name, scale):
    kind, steps = gguf.GGMLQuantizationType[name], torch.arange(256.0)
    rows = [torch.ones(256), -torch.ones(256), (steps == 7).float(), -(steps == 7).float(), steps - 255, steps / 255]
    weight = scale * torch.stack(rows)
    found = torch.from_numpy(gguf.quants.dequantize(rounded(weight, kind), kind))
    assert ((found - weight).abs() <= 0.05 * weight.abs().amax(dim=1, keepdim=True) + 1e-5).all()


def test_the_mixture_is_llama_cpps():
    """Q4_K_M of 28 layers by llama.cpp's rule: the first and last eighth, and every third between."""
    layers = [f"blk.{layer}.{part}.weight" for layer in range(28) for part in ("attn_q", "attn_v", "ffn_down")]
    kinds = {name: kind_of(name, (64, 1024), "q4_k", layers=28, tied=True) for name in (*layers, "token_embd.weight")}
    six = {int(name.split(".")[1]) for name, kind in kinds.items() if "ffn_down" in name and kind.name == "Q6_K"}
    assert six == {0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27}
    assert six == {int(n.split(".")[1]) for n, kind in kinds.items() if "attn_v" in n and kind.name == "Q6_K"}
    assert kinds["token_embd.weight"].name == "Q6_K"
    assert {kind.name for name, kind in kinds.items() if "attn_q" in name} == {"Q4_K"}
    assert kind_of("token_embd.weight", (64, 256), "q4_k", layers=28, tied=False).name == "Q4_K"
    assert kind_of("output.weight", (64, 256), "q4_k", layers=28, tied=False).name == "Q6_K"


@pytest.mark.slow
def test_rows_that_four_bits_do_not_fit_get_wider_types(run, tmp_path, caplog):
    report = GgufExport(source=run[0], out=tmp_path / "voice", dtype="q4_k").run()
    assert report["files"] == ["voice-q4_k.gguf"]
    assert report["measured"]["types"] == {"Q8_0": 3, "Q5_0": 12, "F32": 6}
    assert "3 Q8_0, 12 Q5_0" in caplog.text
    reader = gguf.GGUFReader(tmp_path / "voice" / "voice-q4_k.gguf")
    assert field(reader, "general.file_type") == 15


@pytest.mark.slow
def test_an_untied_head_and_adapters_in_bf16(tmp_path):
    lm = load_base("tiny")
    lm.config.tie_word_embeddings = False
    lm.lm_head.weight = torch.nn.Parameter(lm.lm_head.weight.detach() * 2)
    lm.save_pretrained(tmp_path / "base")
    load_tokenizer("tiny").save_pretrained(tmp_path / "base")
    network = write_run(tmp_path / "run", init_from=str(tmp_path / "base"), method="lora")
    GgufExport(source=tmp_path / "run", out=tmp_path / "voice.gguf").run()
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "voice.gguf").tensors}
    layer = network.lm.model.layers[0].mlp.up_proj
    merged = layer.get_base_layer().weight + layer.get_delta_weight("default")
    for name, expected in (("output.weight", network.lm.lm_head.weight), ("blk.0.ffn_up.weight", merged)):
        assert tensors[name].tensor_type == gguf.GGMLQuantizationType.BF16
        found = gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type)
        assert np.allclose(found, expected.detach().numpy(), rtol=2.0**-8, atol=1e-6)


@pytest.mark.slow
def test_damage_is_found_and_nothing_is_left(run, tmp_path, monkeypatch):
    from tts_train.families.token_lm.export import gguf_file

    write = gguf_file.write_gguf

    def damaged(model, path, *args, **options):
        write(model, path, *args, **options)
        data = bytearray(path.read_bytes())
        data[-5000] ^= 0x40
        path.write_bytes(data)

    monkeypatch.setattr(gguf_file, "write_gguf", damaged)
    with pytest.raises(TTSTrainError, match="differs by more than BF16 rounds"):
        GgufExport(source=run[0], out=tmp_path / "voice.gguf").run()
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_left_alone(run, exported, tmp_path):
    from tts_train.families.token_lm.export.gguf_file import _is_ours

    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"GGUF but somebody else's")
    with pytest.raises(ConfigError, match="Choose another --out"):
        GgufExport(source=run[0], out=mine).run()
    assert _is_ours(exported[0] / "voice-f16.gguf")


def test_without_the_package(run, tmp_path, monkeypatch):
    load = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "gguf":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"tts-train\[gguf\]"):
        GgufExport(source=run[0], out=tmp_path / "voice").run()
