"""TRL's trainers and ours on one tiny Llama and the same pairs of ids: log-probabilities, losses, rewards, a step."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.families.finch import LAYOUT
from tts_train.families.token_lm.network.network import TokenNetwork
from tts_train.families.token_lm.network.start import ATTENTION
from tts_train.families.token_lm.preference.batch import IdPair, pair_batch, sequence_logps
from tts_train.nn.preference import in_pairs, mean_loss, prefer

pytest.importorskip("trl", reason="TRL, which the test extra brings, is not installed here")

END, PAD = 261, 262
BETA, SFT, LR, CLOSE = 0.3, 0.7, 0.5, 1e-5
PAIRS = [
    ([5, 6, 7, 260], [280, 281, 300, END], [280, 290, END]),
    ([8], [310, 311, END], [312, 313, 314, 315, 316, END]),  # a prompt of one id
    ([9, 10, 260], [320, 321, 322, 323, END], [320, 321, END]),  # a run of the chosen one that ended early
]
CASES = {
    "sigmoid": ({"loss_type": ["sigmoid"]}, {}),
    "robust": ({"loss_type": ["robust"], "label_smoothing": 0.1}, {"objective": "robust", "label_smoothing": 0.1}),
    "sigmoid_norm": ({"loss_type": ["sigmoid_norm"]}, {"objective": "sigmoid_norm"}),
    "ipo": ({"loss_type": ["ipo"]}, {"objective": "ipo"}),
    "sft": ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, SFT]}, {}),
    # Of one pair TRL's "aot" is the smoothed objective, which it has under no other name.
    "smoothed": ({"loss_type": ["aot"], "label_smoothing": 0.1}, {"label_smoothing": 0.1}),
}


def llama(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=LAYOUT.vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=END, pad_token_id=PAD, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM._from_config(config, attn_implementation="sdpa")


def ours(theirs):
    lm = LlamaForCausalLM._from_config(theirs.config, attn_implementation=ATTENTION)
    lm.load_state_dict(theirs.state_dict())
    return TokenNetwork(lm, LAYOUT).train()


@pytest.fixture(scope="module")
def networks():
    """The network and a reference, as TRL has them."""
    return llama(0), llama(1)


@pytest.fixture(scope="module")
def tokenizer():
    """Words that name ids: TRL takes pairs as text."""
    words = Tokenizer(models.WordLevel({f"w{each}": each for each in range(LAYOUT.vocab_size)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token=f"w{END}", pad_token=f"w{PAD}")


def rows(pairs):
    from datasets import Dataset

    said = [[" ".join(f"w{each}" for each in ids) for ids in pair] for pair in pairs]
    # A blank between prompt and answer, which TRL joins as they are.
    return Dataset.from_list([{"prompt": p, "chosen": f" {c}", "rejected": f" {r}"} for p, c, r in said])


def options(folder, **more):
    return {
        "output_dir": str(folder), "use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True,
        "gradient_checkpointing": False, "max_steps": 1, "logging_steps": 1, "save_strategy": "no", "beta": BETA,
        "per_device_train_batch_size": len(PAIRS), "learning_rate": LR, "optim": "sgd", "max_grad_norm": 0.0,
        "lr_scheduler_type": "constant", "warmup_steps": 0, **more,
    }  # fmt: skip


def batch_of(pairs):
    ids = [[np.array(part, dtype=np.int64) for part in pair] for pair in pairs]
    return pair_batch([IdPair(str(number), *parts) for number, parts in enumerate(ids)], LAYOUT)


def step(network, loss):
    """The weights after one step of plain gradient descent."""
    loss.backward()
    with torch.no_grad():
        return {name: weight - LR * weight.grad for name, weight in network.lm.named_parameters()}


def same_weights(theirs, wanted):
    for name, weight in theirs.named_parameters():
        torch.testing.assert_close(weight.detach(), wanted[name], rtol=0, atol=CLOSE, msg=lambda m, n=name: f"{n}: {m}")


def sequences(network, batch):
    return sequence_logps(network(batch, tokenwise=True), batch)


def check_step(trainer, found, loss, logps, network):
    """Compare what TRL logs and learns in one step with ours."""
    trainer.train()
    told = trainer.state.log_history[0]
    chosen, rejected = in_pairs(logps.detach())
    figures = {
        "loss": loss, "logps/chosen": chosen.mean(), "logps/rejected": rejected.mean(),
        "rewards/chosen": found.chosen_rewards.mean(), "rewards/rejected": found.rejected_rewards.mean(),
        "rewards/margins": found.margins.mean(), "rewards/accuracies": found.accuracy,
    }  # fmt: skip
    wanted = {key: value.item() for key, value in figures.items()}
    assert {key: told[key] for key in figures} == pytest.approx(wanted, rel=CLOSE, abs=CLOSE)
    learnt = step(network, loss)
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(weight.detach(), learnt[name], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_dpo_is_that_of_trl(name, networks, tokenizer, tmp_path):
    from trl import DPOConfig, DPOTrainer

    (given, chosen_options), pairs = CASES[name], PAIRS[:1] if name == "smoothed" else PAIRS
    theirs, reference = copy.deepcopy(networks)
    trainer = DPOTrainer(
        theirs, reference, args=DPOConfig(**options(tmp_path), **given), train_dataset=rows(pairs),
        processing_class=tokenizer,
    )  # fmt: skip
    network, batch = ours(networks[0]), batch_of(pairs)
    logps = sequences(network, batch)
    with torch.no_grad():
        held = in_pairs(sequences(ours(networks[1]), batch))
    counts = in_pairs(batch["said"])
    found = prefer(*in_pairs(logps), beta=BETA, reference=held, counts=counts, **chosen_options)
    beside = SFT * mean_loss(in_pairs(logps)[0], counts[0]) if name == "sft" else 0
    check_step(trainer, found, found.loss + beside, logps, network)


def test_each_sequence_has_the_log_probability_of_trl(networks, tokenizer, tmp_path):
    from trl import DPOConfig, DPOTrainer

    trainer = DPOTrainer(
        *copy.deepcopy(networks), args=DPOConfig(**options(tmp_path), precompute_ref_log_probs=True),
        train_dataset=rows(PAIRS), processing_class=tokenizer,
    )  # fmt: skip
    read = [tuple(row[f"{part}_ids"] for part in ("prompt", "chosen", "rejected")) for row in trainer.train_dataset]
    assert read == PAIRS
    chosen, rejected = in_pairs(sequences(ours(networks[1]), batch_of(PAIRS)))
    assert trainer.train_dataset["ref_chosen_logps"] == pytest.approx(chosen.tolist(), rel=CLOSE)
    assert trainer.train_dataset["ref_rejected_logps"] == pytest.approx(rejected.tolist(), rel=CLOSE)


def test_a_step_of_orpo_is_that_of_trl(networks, tokenizer, tmp_path):
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    # TRL's ordinary loss is of prompts as well. Those of one id have none, as nothing is said before them.
    pairs = [(prompt[-1:], *answers) for prompt, *answers in PAIRS]
    arguments = ORPOConfig(**options(tmp_path, remove_unused_columns=False), max_length=64)
    trainer = ORPOTrainer(
        copy.deepcopy(networks[0]), args=arguments, train_dataset=rows(pairs), processing_class=tokenizer
    )
    network, batch = ours(networks[0]), batch_of(pairs)
    logps, counts = sequences(network, batch), in_pairs(batch["said"])
    found = prefer(*in_pairs(logps), beta=BETA, objective="orpo", counts=counts)
    loss = found.loss + mean_loss(in_pairs(logps)[0], counts[0])
    # It logs means over tokens.
    check_step(trainer, found, loss, logps / batch["said"], network)
