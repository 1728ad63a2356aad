"""What a language model of codec tokens is taught is what it generates; wrong trainings are told by their fault."""

from __future__ import annotations

import pytest
import torch

from tests.families.finch import END, FinchData, FinchModule, write_rows
from tests.families.test_token_lm import SMALL, module
from tts_train.checking import check_training
from tts_train.contract import StageModule
from tts_train.families.token_lm.data.batch import NO_TARGET, kept_targets
from tts_train.families.token_lm.network.network import HeadOptions


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return str(write_rows(tmp_path_factory.mktemp("finch") / "rows.parquet"))


class Started(FinchModule):
    """Adapters begin at zero, where half of them get no gradient: here they have moved."""

    def build(self):
        super().build()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for name, weight in self.network.named_parameters():
                weight.data += (".lora_B" in name) * 0.1 * torch.randn_like(weight)


@pytest.mark.parametrize("softmax", ["full", "audio", "slot"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_is_drawn_is_what_is_taught(rows, tmp_path, softmax, method):
    trained = module(method, of=Started, head=HeadOptions(softmax=softmax))
    check_training("lm", trained, FinchData(rows, max_tokens=160), runs_in=tmp_path)


class TwiceShifted(FinchData):
    """The targets are shifted once more, as where a loss shifts labels that are shifted."""

    def collate(self, rows):
        batch = super().collate(rows)
        targets = torch.nn.functional.pad(batch["targets"], (0, 1), value=NO_TARGET)[:, 1:]
        return {**batch, "targets": targets, **kept_targets(targets, self.token_lm.layout)}


class Endless(FinchData):
    """The end of speech carries no loss."""

    def collate(self, rows):
        batch = super().collate(rows)
        targets = batch["targets"].masked_fill(batch["targets"] == END, NO_TARGET)
        return {**batch, "targets": targets, **kept_targets(targets, self.token_lm.layout)}


class DeafDepth(FinchModule):
    """A second network predicts from states that its loss is cut off from."""

    def build(self):
        super().build()
        self.network.depth = torch.nn.Linear(SMALL.hidden, 1)

    def training_step(self, batch, batch_idx):
        with torch.no_grad():
            more = self.network.depth(self.network.hidden_states(batch)).mean()
        return super().training_step(batch, batch_idx) + 0 * more


class Leaking(FinchModule):
    """Documents of a packed batch see those before them."""

    def training_step(self, batch, batch_idx):
        if batch["cu_seqlens"] is not None:
            whole = batch["input_ids"].shape[1]
            cuts = torch.tensor([0, whole], dtype=torch.int32)
            batch = {**batch, "cu_seqlens": cuts, "max_seqlen": whole, "lengths": [whole]}
        return super().training_step(batch, batch_idx)


class Silent(FinchModule):
    probe = StageModule.probe


@pytest.mark.parametrize(
    ("trained", "data", "why"),
    [
        (FinchModule, TwiceShifted, r"the loss is shifted twice by one: .* \(t\+2 for t\+1\)"),
        (FinchModule, Endless, r"the stop is not taught: the loss .* lacks the .* nats of its end"),
        (DeafDepth, FinchData, r"no gradient reaches 2 of \d+ trainable tensors, such as network\.depth\.weight"),
        (Leaking, FinchData, r"packed: the rest of a batch changes an utterance's loss"),
        (Silent, FinchData, r"states nothing of its training .* let Silent\.probe return a Probe, or NoProbe"),
    ],
)
def test_a_wrong_training_is_told_by_its_fault(rows, tmp_path, trained, data, why):
    with pytest.raises(AssertionError, match=f"stage 'lm'.*{why}"):
        check_training("lm", module(of=trained), data(rows, max_tokens=160), runs_in=tmp_path)
