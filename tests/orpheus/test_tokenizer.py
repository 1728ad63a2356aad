"""The tiny tokenizer has the real ids and survives saving; another tokenizer is refused by name."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from tts_train.errors import ConfigError
from tts_train_orpheus import layout
from tts_train_orpheus.tokenizer import check_tokenizer, custom_token, load_tokenizer, tiny_tokenizer

TEXT = "tara: Ohé, 你好! <laugh>\n"


def test_it_has_orpheus_ids_and_size():
    tokenizer = load_tokenizer("tiny")
    assert len(tokenizer) == layout.VOCAB_SIZE
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (128000, 128009, 128004)
    names = [custom_token(1), custom_token(10), custom_token(28682), "<|audio|>"]
    assert tokenizer.convert_tokens_to_ids(names) == [128257, 128266, 156938, 156939]


def test_what_one_user_changes_the_next_does_not_find():
    first, untouched = load_tokenizer("tiny"), tiny_tokenizer()
    first.chat_template, first.eos_token = "{{ messages }}", custom_token(2)
    second = load_tokenizer("tiny")
    assert (second.chat_template, second.eos_token) == (None, untouched.eos_token)
    assert second.backend_tokenizer.to_str() == untouched.backend_tokenizer.to_str()


def test_text_is_bytes_after_bos():
    tokenizer = load_tokenizer("tiny")
    ids = tokenizer.encode(TEXT)
    assert ids[0] == layout.BEGIN_OF_TEXT
    assert len(ids) == 1 + len(TEXT.encode())
    assert max(ids[1:]) < 256
    assert tokenizer.decode(ids, skip_special_tokens=True) == TEXT


@pytest.mark.slow
def test_it_comes_back_from_a_folder_unchanged(tmp_path):
    tokenizer = load_tokenizer("tiny")
    tokenizer.save_pretrained(tmp_path)
    for again in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(str(tmp_path))):
        assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
        assert again.encode(TEXT + custom_token(1)) == tokenizer.encode(TEXT + custom_token(1))
        assert again.special_tokens_map == tokenizer.special_tokens_map


def test_a_tokenizer_of_another_model_is_refused_with_the_names_that_are_missing(tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
    other.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"<\|begin_of_text\|> \(needs 128000, has None\).* and 28682 more"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_that_adds_no_bos_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(ConfigError, match="must put BOS"):
        check_tokenizer(tokenizer, "tiny")


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", "[]", "tokenizer.json holds no JSON object"),
        ("tokenizer.json", "{}", "damaged or of another kind"),
        ("tokenizer.json", '{"added_tokens": [], "model": {"type": "BPE"}}', r"column 46\. Give"),
        ("tokenizer.json", "", "Expecting value"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json holds no JSON object"),
    ],
)
def test_a_damaged_tokenizer_is_told(tmp_path, name, content, said):
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=said):
        load_tokenizer(str(tmp_path))


def test_a_missing_pad_token_becomes_the_one_llama_reserves(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).pad_token_id == layout.TEXT_PAD
