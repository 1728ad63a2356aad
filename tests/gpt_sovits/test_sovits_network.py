"""The adversarial network: padding tells nothing, what is frozen stays, gradients reach what learns."""

from __future__ import annotations

import pytest
import torch

from tests.gpt_sovits.sovits_tiny import FRAMES, HOP, tiny_batch, tiny_network
from tts_train_gpt_sovits.networks.sovits.adversarial import kl_loss
from tts_train_gpt_sovits.networks.sovits.generator import random_starts, slice_frames
from tts_train_gpt_sovits.networks.sovits.layers import RelativeAttention, gather, spread
from tts_train_gpt_sovits.signal.mel import wave_log_mel

STARTS = torch.tensor([3, 5])


def test_a_forward_has_the_promised_shapes():
    made = tiny_network()(**tiny_batch(), frames=FRAMES)
    assert made.audio.shape == (2, 1, FRAMES * HOP)
    assert made.latents.shape == made.mean_p.shape == made.log_q.shape == (2, 4, 20)
    assert made.quantized.codes.shape == (2, 10)
    assert made.audio.abs().max() <= 1.0


@pytest.mark.parametrize("speaker", [False, True])
def test_padding_changes_nothing(speaker):
    network = tiny_network(speaker=speaker).eval()
    vectors = {"speaker": torch.randn(2, 20480)} if speaker else {}
    # The style encoder's convolutions see four frames past an utterance's end, as the released ones do.
    together = network(**tiny_batch(frames=24), **vectors, frames=FRAMES, starts=STARTS)
    wider = network(**tiny_batch(frames=34), **vectors, frames=FRAMES, starts=STARTS)
    torch.testing.assert_close(wider.audio, together.audio, rtol=1e-4, atol=1e-5)
    for name in ("prior_latents", "mean_p", "log_p", "log_q"):
        torch.testing.assert_close(getattr(wider, name)[..., :24], getattr(together, name), rtol=1e-4, atol=1e-5)
        assert not getattr(wider, name)[..., 20:].any()


def test_the_speaker_vector_is_heard_and_asked_for():
    network = tiny_network(speaker=True).eval()
    batch = tiny_batch()
    one, other = (
        network(**batch, speaker=torch.full((2, 20480), value), frames=FRAMES, starts=STARTS) for value in (0.0, 1.0)
    )
    assert (one.audio - other.audio).abs().max() > 1e-4
    with pytest.raises(ValueError, match="speaker"):
        network(**batch, frames=FRAMES)


def test_a_frozen_quantizer_stays_and_keeps_no_graph():
    network = tiny_network()  # as it is made, which is how Lightning trains it
    before = {name: tensor.clone() for name, tensor in network.quantizer.state_dict().items()}
    made = network(**tiny_batch(), frames=FRAMES)
    assert not made.quantized.values.requires_grad
    made.audio.sum().backward()
    kept = network.quantizer.state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in before.items())
    assert network.feature_projection.weight.grad is None


def test_an_unfrozen_quantizer_moves_and_teaches_the_projection():
    network = tiny_network(freeze_quantizer=False).train()
    before = network.quantizer.embedding.clone()
    made = network(**tiny_batch(), frames=FRAMES)
    (made.mean_p.sum() + made.quantized.commitment).backward()
    assert not torch.equal(network.quantizer.embedding, before)
    assert network.feature_projection.weight.grad.abs().max() > 0


def test_every_other_parameter_learns():
    network = tiny_network().train()
    torch.nn.init.normal_(network.flow.couplings[0].output.weight)  # a fresh flow is the identity
    for coupling in network.flow.couplings:
        torch.nn.init.normal_(coupling.output.weight, std=0.1)
    made = network(**tiny_batch(), frames=FRAMES)
    loss = kl_loss(made.prior_latents, made.log_q, made.mean_p, made.log_p, made.mask) + made.audio.square().mean()
    loss.backward()
    idle = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert idle == ["feature_projection.weight", "feature_projection.bias"]


def test_the_flow_runs_backwards():
    network = tiny_network().eval()
    for coupling in network.flow.couplings:
        torch.nn.init.normal_(coupling.output.weight)
    latents, mask, style = torch.randn(2, 4, 9), torch.ones(2, 1, 9), torch.randn(2, 512, 1)
    there = network.flow(latents, mask, style)
    assert (there - latents).abs().max() > 0.1
    torch.testing.assert_close(network.flow(there, mask, style, reverse=True), latents, rtol=1e-4, atol=1e-4)


def test_decoding_is_repeatable_and_follows_speed():
    network = tiny_network().eval()
    codes, text = torch.randint(0, 1024, (1, 10)), torch.randint(0, 12, (1, 6))
    references = [torch.rand(1, 1025, 12), torch.rand(1, 1025, 7)]

    def speak(seed, **changes):
        return network.decode(codes, text, references, generator=torch.Generator().manual_seed(seed), **changes)

    assert torch.equal(speak(1), speak(1))
    assert not torch.equal(speak(1), speak(2))
    assert torch.equal(speak(1, noise_scale=0.0), speak(2, noise_scale=0.0))
    assert speak(1).shape == (1, 1, 20 * HOP)
    assert speak(1, speed=2.0).shape == (1, 1, 11 * HOP)


def test_tokens_of_features_are_those_of_training():
    network = tiny_network().eval()
    batch = tiny_batch()
    assert torch.equal(network.codes(batch["features"]), network(**batch, frames=FRAMES).quantized.codes)


def test_near_distances_lie_on_their_diagonals():
    near = torch.randn(2, 3, 7, 9)
    dense, weights = spread(near), torch.randn(2, 3, 7, 7)
    read = gather(weights, 4)
    for i in range(7):
        for j in range(7):
            expected = near[:, :, i, j - i + 4] if abs(i - j) <= 4 else torch.zeros(2, 3)
            assert torch.equal(dense[:, :, i, j], expected)
        for k in range(9):
            j = i + k - 4
            assert torch.equal(read[:, :, i, k], weights[:, :, i, j] if 0 <= j < 7 else torch.zeros(2, 3))


@pytest.mark.parametrize("frames", [1, 3, 30])
def test_attention_is_the_plain_sum(frames):
    torch.manual_seed(0)
    attention = RelativeAttention(8, heads=2).double()
    x, mask = torch.randn(1, 8, frames).double(), torch.ones(1, 1, frames).double()
    query, key, value = (getattr(attention, name)(x)[0].view(2, 4, frames) for name in ("query", "key", "value"))
    out = torch.zeros(2, 4, frames).double()
    for head in range(2):
        for i in range(frames):
            keys, values = key[head].clone(), value[head].clone()
            for j in range(max(0, i - 4), min(frames, i + 5)):
                keys[:, j] += attention.relative_keys[0, j - i + 4]
                values[:, j] += attention.relative_values[0, j - i + 4]
            out[head, :, i] = values @ torch.softmax(query[head, :, i] @ keys / 2.0, dim=0)
    torch.testing.assert_close(attention(x, mask), attention.output(out.view(1, 8, frames)))


def test_slices_lie_where_they_start():
    x = torch.arange(40.0).view(2, 1, 20)
    assert slice_frames(x, torch.tensor([3, 0]), 4).squeeze(1).tolist() == [[3, 4, 5, 6], [20, 21, 22, 23]]


def test_random_starts_reach_every_place_and_no_further():
    lengths = torch.tensor([40, 33, 32, 5]).repeat(400)
    drawn = random_starts(lengths, 32, generator=torch.Generator().manual_seed(0)).view(400, 4)
    assert [sorted(set(column.tolist())) for column in drawn.T] == [list(range(9)), [0, 1], [0], [0]]


def test_autocast_changes_no_code_and_no_mel():
    network = tiny_network().eval()
    batch = tiny_batch()
    exact = network(**batch, frames=FRAMES, starts=STARTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(**batch, frames=FRAMES, starts=STARTS)
        picture = wave_log_mel(torch.ones(1, 6400))
    assert torch.equal(rough.quantized.codes, exact.quantized.codes)
    assert torch.equal(picture, wave_log_mel(torch.ones(1, 6400)))
    assert (rough.audio - exact.audio).abs().max() < 0.1


@pytest.mark.parametrize("frames", [20, 26], ids=["fitting", "padded"])
def test_codes_of_a_frozen_quantizer_stand_for_the_features(frames):
    network = tiny_network().eval()
    batch = tiny_batch(frames=frames)
    noise = batch.pop("noise")
    codes = network.codes(batch["features"])
    padding = torch.arange(frames // 2) * 2 >= batch["lengths"][:, None]
    given = {**batch, "features": None, "codes": codes.masked_fill(padding, 0)}
    one, other = (network(**each, noise=noise, frames=FRAMES, starts=STARTS) for each in (batch, given))
    for name in ("audio", "mean_p", "log_p", "prior_latents"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(one.quantized.commitment, other.quantized.commitment)


def test_a_trained_quantizer_needs_features():
    network = tiny_network(freeze_quantizer=False)
    given = {**tiny_batch(), "features": None, "codes": torch.zeros(2, 10, dtype=torch.long)}
    with pytest.raises(ValueError, match="features"):
        network(**given, frames=FRAMES)
