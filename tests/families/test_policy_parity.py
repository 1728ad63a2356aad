"""TRL's GRPO and ours on one tiny Llama and the same takes of ids: losses, gradients, divergence, what is clipped."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from tests.families.finch import LAYOUT
from tests.families.test_preference_parity import END, PAD, llama, options, ours
from tts_train.families.token_lm.preference.batch import IdGroup, group_batch, token_logps
from tts_train.nn.policy import advantages, aggregated, next_kl_weight, policy_loss

pytest.importorskip("trl", reason="TRL, which the test extra brings, is not installed here")

BETA, LOW, HIGH, LONGEST, CLOSE = 0.3, 0.1, 0.25, 9, 1e-5
PROMPT = [5, 6, 7, 260]
TAKES = [[280, 281, 300, END], [280, 290, END], [310, 311, 312, 313, 314, END], [END]]
REWARDS = torch.tensor([[0.7, -0.4, 1.9, 0.2]])


@pytest.fixture(scope="module")
def networks():
    """The network, and a reference."""
    return llama(0), llama(1)


@pytest.fixture(scope="module")
def inputs(networks):
    """The takes as TRL has them, with log-probabilities of a network that drew them and is no more the same."""
    width = max(map(len, TAKES))
    ids = torch.tensor([[*take, *[PAD] * (width - len(take))] for take in TAKES])
    mask = torch.tensor([[1] * len(take) + [0] * (width - len(take)) for take in TAKES])
    prompt = torch.tensor([PROMPT] * len(TAKES))
    torch.manual_seed(2)
    return {
        "prompt_ids": prompt, "prompt_mask": torch.ones_like(prompt), "completion_ids": ids, "completion_mask": mask,
        "shift": torch.randn(mask.shape) * 0.2,
    }  # fmt: skip


def trainer_of(network, folder, loss_type):
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    words = Tokenizer(models.WordLevel({f"w{each}": each for each in range(LAYOUT.vocab_size)}, unk_token="w0"))
    given = options(folder, per_device_train_batch_size=len(TAKES), num_generations=len(TAKES), loss_type=loss_type)
    given |= {"beta": 0.0, "epsilon": LOW, "epsilon_high": HIGH, "max_completion_length": LONGEST}
    return GRPOTrainer(
        copy.deepcopy(network), reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(**given), train_dataset=Dataset.from_list([{"prompt": "w5"}] * len(TAKES)),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, eos_token=f"w{END}", pad_token=f"w{PAD}"),
    )  # fmt: skip


def taken_together():
    ids = [np.array(take, dtype=np.int64) for take in TAKES]
    return group_batch([IdGroup("t", np.array(PROMPT, dtype=np.int64), tuple(ids))], LAYOUT)


def plain_logps(network, ids, seen, width):
    logits = network(input_ids=ids, attention_mask=seen).logits[:, -width - 1 : -1]
    return logits.log_softmax(-1).gather(-1, ids[:, -width:, None])[..., 0]


def flat(table, mask):
    """Return what stands in a padded table, row by row."""
    return table[mask.bool()]


@pytest.mark.parametrize("how", ["grpo", "dr_grpo", "dapo"])
def test_the_loss_and_its_gradient_are_those_of_trl(how, networks, inputs, tmp_path):
    trainer, mask = trainer_of(networks[0], tmp_path, how), inputs["completion_mask"]
    # With it from the start, TRL would look for the reference on a hub.
    trainer.beta = BETA
    trainer.current_gradient_accumulation_steps = 1
    both = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    seen = torch.cat([inputs["prompt_mask"], mask], dim=1)
    with torch.no_grad():
        reference, old = (plain_logps(network, both, seen, mask.shape[1]) for network in reversed(networks))
        old = old + inputs["shift"]
    gains = advantages(REWARDS)[0]
    given = {name: inputs[name] for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")}
    given |= {"advantages": gains, "old_per_token_logps": old, "ref_per_token_logps": reference}
    theirs = trainer._compute_loss(trainer.model.train(), {**given, "num_items_in_batch": mask.sum()})
    theirs.backward()

    network, batch = ours(networks[0]), taken_together()
    sizes = batch["said"].tolist()
    logps = token_logps(network(batch, tokenwise=True), batch)
    found = policy_loss(
        logps, flat(old, mask), gains.repeat_interleave(batch["said"]), low=LOW, high=HIGH,
        reference=flat(reference, mask), kl_weight=BETA,
    )  # fmt: skip
    whole = {"grpo": len(TAKES), "dapo": sum(sizes), "dr_grpo": len(TAKES) * LONGEST}[how]
    loss = aggregated(found.losses, sizes, how, weights=torch.ones(len(TAKES)), whole=whole)
    loss.backward()

    assert loss.item() == pytest.approx(theirs.item(), abs=CLOSE)
    gradients = dict(network.lm.named_parameters())
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(gradients[name].grad, weight.grad, rtol=0, atol=CLOSE, msg=lambda m, n=name: n + m)
    told = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert found.clipped.float().mean().item() == pytest.approx(told["clip_ratio/region_mean"], abs=CLOSE)
    assert 0 < told["clip_ratio/region_mean"] < 1
    assert (found.kl * torch.exp(logps - flat(old, mask))).mean().item() == pytest.approx(told["kl"], abs=CLOSE)


def test_takes_without_a_reward_have_no_part(networks):
    rewards = torch.tensor([[1.0, float("nan"), 3.0], [float("nan"), 2.0, float("nan")]])
    for scale in ("group", "batch", "none"):
        found = advantages(rewards, scale)
        assert (found[:, 1] == 0).all()
        assert (found[1] == 0).all()
        assert found[0, 0] == -found[0, 2] != 0
    # As TRL has it: the deviation of a sample.
    assert advantages(rewards)[0, 2].item() == pytest.approx(1 / (2**0.5 + 1e-4))


def test_the_weight_of_the_divergence_follows_its_target():
    assert next_kl_weight(0.1, 0.02, 0.02) == 0.1
    assert next_kl_weight(0.1, 1.0, 0.02) == pytest.approx(0.102)
    assert next_kl_weight(0.1, 0.0, 0.02) == pytest.approx(0.098)
