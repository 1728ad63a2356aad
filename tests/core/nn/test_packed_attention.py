"""Attention over packed documents against one document at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM

from tts_train.nn import packed_attention as packed
from tts_train.nn.devices import planning_for
from tts_train.nn.packed_attention import packed_attention, packed_attention_thd, register

LENGTHS = [5, 1, 9, 3]


def tensors(dtype=torch.float64, device="cpu", head=8):
    generator = torch.Generator().manual_seed(1)
    shapes = [(1, 4, sum(LENGTHS), head), (1, 2, sum(LENGTHS), head), (1, 2, sum(LENGTHS), head)]
    made = [torch.randn(s, generator=generator, dtype=torch.float64).to(device, dtype).requires_grad_() for s in shapes]
    cu_seqlens = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)], dtype=torch.int32, device=device)
    return made, {"cu_seqlens": cu_seqlens, "max_seqlen": max(LENGTHS)}


def one_by_one(query, key, value):
    pieces = zip(*(torch.split(t, LENGTHS, dim=2) for t in (query, key, value)), strict=True)
    done = []
    for q, k, v in pieces:
        k, v = k.repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1)
        done.append(scaled_dot_product_attention(q, k, v, is_causal=True))
    return torch.cat(done, dim=2)


def test_equal_to_one_document_at_a_time():
    qkv, documents = tensors()
    output, expected = packed_attention(*qkv, **documents), one_by_one(*qkv)
    torch.testing.assert_close(output, expected)
    weights = torch.randn(output.shape, dtype=torch.float64)
    grads = [torch.autograd.grad((out * weights).sum(), qkv) for out in (output, expected)]
    for grad, other in zip(*grads, strict=True):
        torch.testing.assert_close(grad, other)


def test_no_document_sees_another():
    qkv, documents = tensors()
    third = packed_attention(*qkv, **documents)[:, :, 6:15]
    for grad in torch.autograd.grad(third.sum(), qkv):
        outside = torch.cat([grad[:, :, :6], grad[:, :, 15:]], dim=2)
        assert not outside.any()
        assert grad[:, :, 6:15].any()


def test_mixed_types_under_autocast():
    (query, key, value), documents = tensors(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = packed_attention(query, key, value.bfloat16(), **documents)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), one_by_one(query, key, value), rtol=0, atol=5e-2)


def test_tokens_first_is_the_same_attention():
    qkv, documents = tensors()
    tokens_first = [tensor.detach().squeeze(0).transpose(0, 1).contiguous().requires_grad_() for tensor in qkv]
    expected = packed_attention(*qkv, **documents)
    for given in ({}, {"lengths": LENGTHS}):
        output = packed_attention_thd(*tokens_first, **documents, **given)
        assert output.is_contiguous()
        assert torch.equal(output, expected.squeeze(0).transpose(0, 1))
    grads = torch.autograd.grad(output.square().sum(), tokens_first)
    for grad, other in zip(grads, torch.autograd.grad(expected.square().sum(), qkv), strict=True):
        assert torch.equal(grad, other.squeeze(0).transpose(0, 1))


def test_known_lengths_are_not_read_from_the_device():
    qkv, documents = tensors()
    expected = packed_attention(*qkv, **documents)
    documents["cu_seqlens"] = documents["cu_seqlens"].to("meta")
    assert torch.equal(packed_attention(*qkv, **documents, lengths=LENGTHS), expected)
    with pytest.raises(NotImplementedError):  # a tensor without values cannot be read
        packed_attention(*qkv, **documents)


@pytest.mark.parametrize(
    ("dtype", "mask", "repeated"),
    [(torch.float32, False, True), (torch.bfloat16, True, True), (torch.bfloat16, False, False)],
)
def test_heads_are_repeated_where_no_cuda_kernel_groups_them(dtype, mask, repeated, monkeypatch):
    (query, key, value), _ = tensors(dtype)
    seen = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **_: seen.append((k.shape[1], _)) or q)
    given = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool) if mask else None
    with planning_for("cuda"):
        packed._attention(torch.nn.Identity(), query, key, value, given)
    heads, options = seen[0]
    assert heads == (4 if repeated else 2)
    assert options["enable_gqa"] is not repeated


@pytest.fixture(scope="module")
def models():
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    torch.manual_seed(0)
    plain = LlamaForCausalLM._from_config(config, attn_implementation="sdpa").eval()
    ours = LlamaForCausalLM._from_config(config, attn_implementation=register()).eval()
    ours.load_state_dict(plain.state_dict())
    return plain, ours


def test_generation_is_that_of_plain_attention(models):
    ids = torch.tensor([[3, 7, 11, 2], [9, 8, 30, 41]])
    for mask in (torch.ones_like(ids), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])):
        texts = [
            model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0)
            for model in models
        ]
        assert torch.equal(*texts)


def test_several_tokens_after_a_cached_prefix(models):
    ids = torch.tensor([[3, 7, 11, 2, 9, 8, 30]])
    whole, ours = models[0](ids).logits, models[1]
    cache = ours(ids[:, :4], use_cache=True).past_key_values
    torch.testing.assert_close(ours(ids[:, 4:], past_key_values=cache).logits, whole[:, 4:], rtol=1e-4, atol=1e-5)
