"""CSM's loss is that of transformers, packed and padded, and every weight learns."""

from __future__ import annotations

import torch
from tts_train_csm.layout import CODEBOOKS, LAYOUT

from tests.csm.small import documents, pair
from tts_train.families.token_lm.frames.batch import pack_frames, pad_frames


def their_loss(theirs, batch):
    """The loss that transformers takes with ``labels``, from a padded batch."""
    rows, width = batch["input_ids"].shape
    embeds = theirs.embed_text_tokens(batch["input_ids"] * (batch["input_ids"] < LAYOUT.audio_base)).flatten(0, 1)
    embeds = embeds.index_copy(0, batch["frame_places"], theirs.backbone_model.embed_tokens(batch["codes"][None])[0])
    labels = torch.full((rows * width, CODEBOOKS), -100)
    labels[batch["frame_places"]] = batch["codes"]
    mask = (torch.arange(width)[None] < torch.tensor(batch["lengths"])[:, None]).long()
    return theirs(
        inputs_embeds=embeds.view(rows, width, -1), attention_mask=mask, labels=labels.view(rows, width, CODEBOOKS)
    )


def test_the_loss_is_that_of_transformers():
    theirs, network = pair()
    padded, packed = pad_frames(documents(), LAYOUT), pack_frames(documents(), LAYOUT)
    expected = their_loss(theirs, padded)
    for batch in (padded, packed):
        output = network(batch)
        assert abs(output.loss - expected.loss) < 1e-5 * expected.loss, batch["cu_seqlens"]
        assert torch.allclose(output.depth.loss_sum / output.depth.count, expected.depth_decoder_loss, rtol=1e-5)
    assert output.head.count == 3 + 7 + 1 + 5 + len(documents())  # frames and ends
    assert output.depth.count == output.head.count * (CODEBOOKS - 1)
    assert torch.equal(LAYOUT.slot_of(output.depth.targets).view(-1, CODEBOOKS - 1)[0], torch.arange(1, CODEBOOKS))


def test_every_weight_gets_the_gradient_of_transformers():
    theirs, network = pair()
    their_loss(theirs, pad_frames(documents(), LAYOUT)).loss.backward()
    network.train()(pack_frames(documents(), LAYOUT)).loss.backward()
    wanted = dict(theirs.named_parameters())
    for name, parameter in network.lm.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        assert torch.allclose(parameter.grad, wanted[name].grad, atol=1e-5, rtol=1e-3), name
