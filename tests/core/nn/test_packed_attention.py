"""Attention over packed documents against one document at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM

from tts_train.nn import packed_attention as packed
from tts_train.nn.packed_attention import packed_attention, register

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


def test_the_kernel_takes_what_it_is_given():
    # Without a GPU the shapes still go through the kernel's own shape rule.
    (query, key, value), documents = tensors(torch.bfloat16, "meta")
    output = packed._one_kernel(query, key, value, **documents, scale=0.5)
    assert output.shape == query.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_is_equal_to_the_loop():
    qkv, documents = tensors(torch.bfloat16, "cuda", head=64)
    assert packed._has_kernel(qkv[0])
    output, expected = packed_attention(*qkv, **documents), one_by_one(*(t.float() for t in qkv))
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=3e-2)
    grads = [torch.autograd.grad(out.float().square().sum(), qkv) for out in (output, expected)]
    for grad, other in zip(*grads, strict=True):
        torch.testing.assert_close(grad, other, rtol=0, atol=5e-2 * other.abs().max().item())


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
