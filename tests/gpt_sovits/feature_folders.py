"""Folders and files in the released layouts, with small networks in them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, HubertConfig, HubertModel

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"，。！？…-你好世界今天气很的我们去a1", "ab", "##b"]
OLD_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def hubert_folder(folder: Path, *, pickled: bool = True, prefix: str = "") -> HubertModel:
    """Write a small HuBERT as chinese-hubert-base is laid out, with its old names of weight norm."""
    config = HubertConfig(
        conv_dim=(16,) * 7, num_hidden_layers=2, intermediate_size=48, num_conv_pos_embeddings=16, vocab_size=32
    )
    torch.manual_seed(5)
    network = HubertModel(config).eval()
    named = {}
    for name, tensor in network.state_dict().items():
        for new, old in OLD_NORM.items():
            name = name.replace(new, old)
        named[prefix + name] = tensor.clone()
    _write(folder, {**config.to_dict(), "torch_dtype": "float32"}, named, pickled=pickled)
    return network


def bert_folder(folder: Path, *, pickled: bool = True) -> BertForMaskedLM:
    """Write a small BERT as chinese-roberta-wwm-ext-large is laid out: for masked words, with a vocabulary."""
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=1024, num_hidden_layers=4, num_attention_heads=16, intermediate_size=32
    )
    torch.manual_seed(6)
    network = BertForMaskedLM(config).eval()
    named = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): t.clone() for name, t in network.state_dict().items()}
    _write(folder, config.to_dict(), named, pickled=pickled)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"})
    )
    return network


def _write(folder: Path, config: dict, weights: dict[str, torch.Tensor], *, pickled: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if pickled:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file({name: tensor.clone().contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
