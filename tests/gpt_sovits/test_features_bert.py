"""Text features: the third hidden state from the end, one token a character, whatever else is in the batch."""

from __future__ import annotations

import pytest
import torch
from transformers import BertTokenizer

from tests.gpt_sovits.feature_folders import WORDS, bert_folder
from tts_train.errors import DataError
from tts_train_gpt_sovits.features import BertFeatures

TEXT, COUNTS = "你好，世界…今天", [2, 2, 1, 2, 2, 1, 2, 2]


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    return bert_folder(folder), BertFeatures.load(str(folder)), folder


@pytest.mark.parametrize("text", [TEXT, "好", "我们…去！"])
def test_what_upstream_computes(released, text):
    network, features, folder = released
    inputs = BertTokenizer(vocab=str(folder / "vocab.txt"))(text, return_tensors="pt")
    with torch.no_grad():
        states = network(**inputs, output_hidden_states=True).hidden_states[-3][0, 1:-1]
    counts = [1 + place % 3 for place in range(len(text))]
    expected = torch.cat([row.repeat(count, 1) for row, count in zip(states, counts, strict=True)])
    found = features.encode([(text, counts)])[0]
    assert found.shape == (sum(counts), 1024)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_last_two_layers_are_not_computed(released):
    network, features, _ = released
    assert len(features.network.encoder.layer) == len(network.bert.encoder.layer) - 2


def test_a_text_is_the_same_alone_and_in_any_batch(released):
    features = released[1]
    parts = [(TEXT, COUNTS), ("好", [2]), (TEXT[:7], COUNTS[:7]), (TEXT * 20, COUNTS * 20), ("我们", [2, 0])]
    for one, part in zip(features.encode(parts), parts, strict=True):
        torch.testing.assert_close(one, features.encode([part])[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "pieces"), [("好ab", ["好", "a", "[UNK]"]), ("好 1", ["好", "[UNK]", "1"]), ("A饕", ["a", "[UNK]"])]
)
def test_every_character_is_one_token(released, text, pieces):
    """The tokenizer joins letters and leaves out spaces, which upstream answers by dropping the row."""
    assert [WORDS[released[1].tokens(char)] for char in text] == pieces


def test_texts_that_cannot_be_read(released):
    features = released[1]
    with pytest.raises(DataError, match="Text 1 has 2 characters and phoneme counts for 1"):
        features.encode([(TEXT, COUNTS), ("你好", [2])])
    with pytest.raises(DataError, match="0 characters"):
        features.encode([("", [])])
    with pytest.raises(DataError, match="600 characters, not 1 to 510"):
        features.encode([("好" * 600, [2] * 600)])


def test_folders_that_are_no_bert(released, tmp_path):
    bert_folder(tmp_path)
    for name in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="tokenizer"):
        BertFeatures.load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12}')
    with pytest.raises(DataError, match="not a BERT of 1024 channels"):
        BertFeatures.load(str(tmp_path))


def test_tiny():
    features = BertFeatures.load("tiny")
    found = features.encode([(TEXT, COUNTS)])[0]
    assert found.shape == (sum(COUNTS), 1024)
    assert (found[0] - found[2]).abs().max() > 0.1
    assert torch.equal(found[0], found[1])
    assert features.fingerprint == BertFeatures.load("tiny").fingerprint
