"""Reads English: CMUdict first, homographs by part of speech, unknown words letter by letter.

Parts of speech come from the averaged perceptron of Honnibal (2013) with the weights that NLTK distributes and
upstream uses, rounded to one decimal, on the features published there. Unknown words go through the encoder-decoder of
g2p_en (Park and Kim, 2019), which upstream uses, with its weights in half precision.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tts_train_gpt_sovits.text.english.normal import EnglishNormaliser
from tts_train_gpt_sovits.text.reading import TextReading, read_arrays, read_text

_LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
_PHONES_TEXT = """
<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2
ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2
UW UW0 UW1 UW2 V W Y Z ZH
"""
_PHONES = tuple(_PHONES_TEXT.split())
_START, _END = _PHONES.index("<s>"), _PHONES.index("</s>")
_LONGEST = 20
# Upstream drops these as well, but for <unk>, which it writes as UNK (text/english.py).
_DROPPED = frozenset({"<pad>", "<unk>", "<s>", "</s>", "UW"})

Array = NDArray[np.float32]


class LetterNetwork:
    """A one-layer GRU that reads letters and one that writes phones, best phone first."""

    def __init__(self) -> None:
        self._weights = read_arrays("english_letters.npz")

    def guess(self, word: str) -> list[str]:
        """Give the phones of a lower-case word, 20 at most."""
        state: Array = np.zeros(self._weights["enc_w_hh"].shape[1], np.float32)
        for letter in (*word, "</s>"):
            index = _LETTERS.index(letter) if letter in _LETTERS else _LETTERS.index("<unk>")
            state = self._step("enc", self._weights["enc_emb"][index], state)
        phones: list[str] = []
        last = _START
        for _ in range(_LONGEST):
            state = self._step("dec", self._weights["dec_emb"][last], state)
            last = int((self._weights["fc_w"] @ state + self._weights["fc_b"]).argmax())
            if last == _END:
                break
            phones.append(_PHONES[last])
        return [phone for phone in phones if phone not in _DROPPED]

    def _step(self, side: str, x: Array, state: Array) -> Array:
        from_input = self._weights[f"{side}_w_ih"] @ x + self._weights[f"{side}_b_ih"]
        from_state = self._weights[f"{side}_w_hh"] @ state + self._weights[f"{side}_b_hh"]
        reset_in, update_in, new_in = np.split(from_input, 3)
        reset_state, update_state, new_state = np.split(from_state, 3)
        reset, update = _sigmoid(reset_in + reset_state), _sigmoid(update_in + update_state)
        new: Array = np.tanh(new_in + reset * new_state)
        return np.asarray((1 - update) * new + update * state, dtype=np.float32)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float32)


_BEFORE, _AFTER = ("-START-", "-START2-"), ("-END-", "-END2-")


class Tagger:
    """Tags a sentence of tokens with Penn Treebank tags."""

    def __init__(self) -> None:
        # A feature's weights are split when it is met; most of them never are.
        tags, known, *features = read_text("english_tagger.txt.xz").splitlines()
        self._tags = tags.split(" ")
        pairs = known.split(" ")
        self._known = dict(zip(pairs[::2], pairs[1::2], strict=True))
        self._weights = dict(line.split("\t") for line in features)

    def tag(self, tokens: Sequence[str]) -> list[str]:
        """Give one tag for each token."""
        context = [*_BEFORE, *map(_folded, tokens), *_AFTER]
        before, before2 = _BEFORE
        tags: list[str] = []
        for i, token in enumerate(tokens):
            tag = self._known.get(token) or self._best(_features(i, token, context, before, before2))
            tags.append(tag)
            before2, before = before, tag
        return tags

    def _best(self, features: Iterator[str]) -> str:
        scores: dict[str, float] = defaultdict(float)
        for feature in features:
            for entry in self._weights.get(feature, "").split():
                index, _, weight = entry.partition(":")
                scores[self._tags[int(index)]] += float(weight)
        # Ties go to the last tag in the alphabet, as in NLTK's.
        return max(self._tags, key=lambda tag: (scores[tag], tag))


def _folded(token: str) -> str:
    if "-" in token and token[0] != "-":
        return "!HYPHEN"
    if token.isdigit() and len(token) == 4:
        return "!YEAR"
    return "!DIGITS" if token[:1].isdigit() else token.lower()


def _features(i: int, token: str, context: Sequence[str], before: str, before2: str) -> Iterator[str]:
    here = i + len(_BEFORE)
    yield "bias"
    yield f"i suffix {token[-3:]}"
    yield f"i pref1 {token[:1]}"
    yield f"i-1 tag {before}"
    yield f"i-2 tag {before2}"
    yield f"i tag+i-2 tag {before} {before2}"
    yield f"i word {context[here]}"
    yield f"i-1 tag+i word {before} {context[here]}"
    yield f"i-1 word {context[here - 1]}"
    yield f"i-1 suffix {context[here - 1][-3:]}"
    yield f"i-2 word {context[here - 2]}"
    yield f"i+1 word {context[here + 1]}"
    yield f"i+1 suffix {context[here + 1][-3:]}"
    yield f"i+2 word {context[here + 2]}"


LIBRARIES = ("inflect",)
_TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[.,?!'\-]")
_VOICELESS = frozenset(["P", "T", "K", "F", "TH", "HH"])
_HISSING = frozenset(["S", "Z", "SH", "ZH", "CH", "JH"])
_SHORTEST = 4
_SPELLED = 3


class EnglishReader:
    """Reads English as upstream does, without NLTK.

    CMUdict (first pronunciation), g2p_en's list of homographs with NLTK's perceptron tagger, g2p_en's network for
    words that the dictionary lacks (up to three letters are spelled). Upstream also cuts unknown words into known ones
    and has a list of names; neither is used here.
    """

    def __init__(self) -> None:
        self._words = dictionary()
        self._homographs = dict(
            (word, (first, second, tag))
            for word, first, second, tag in (
                line.split("|") for line in read_text("english_homographs.txt").splitlines()
            )
        )
        self._normaliser = EnglishNormaliser(self._words)
        self._tagger = Tagger()
        self._network = LetterNetwork()

    def read(self, text: str) -> TextReading:
        """Read `text`; fewer than four phones get a comma in front, as in upstream's training and inference."""
        norm_text = self._normaliser.normalise(text)
        tokens = _TOKEN.findall(norm_text)
        phones = [
            p for token, tag in zip(tokens, self._tagger.tag(tokens), strict=True) for p in self._token(token, tag)
        ]
        if phones and len(phones) < _SHORTEST:
            phones.insert(0, ",")
        return TextReading(norm_text, tuple(phones))

    def _token(self, token: str, tag: str) -> list[str]:
        word = token.lower()
        if not token[0].isalpha():
            return ["-" if token == "'" else token]
        if len(word) == 1:
            return self._letter(token)
        if word in self._homographs:
            first, second, wanted = self._homographs[word]
            # The list has one tag longer than others, VBP of read, which VB stands for too.
            return (first if tag.startswith(wanted) or wanted.startswith(tag) else second).split()
        return self._word(word)

    def _letter(self, letter: str) -> list[str]:
        # The dictionary's first reading of `a` is the article.
        return ["EY1"] if letter == "A" else self._words[letter.lower()].split()

    def _word(self, word: str) -> list[str]:
        if word in self._words:
            return self._words[word].split()
        if word.endswith("'s"):
            return self._possessive(self._word(word[:-2]) if len(word) > 3 else self._letter(word[0].upper()))
        letters = word.replace("'", "")
        if len(letters) <= _SPELLED:
            return [phone for letter in letters for phone in self._letter(letter.upper())]
        return self._network.guess(letters)

    def _possessive(self, phones: list[str]) -> list[str]:
        if phones[-1] in _VOICELESS:
            return [*phones, "S"]
        return [*phones, "AH0", "Z"] if phones[-1] in _HISSING else [*phones, "Z"]


@cache
def dictionary() -> dict[str, str]:
    """CMUdict: each lower-case word with the phones of its first pronunciation, separated by spaces."""
    lines = (line.partition(" ") for line in read_text("english_words.txt.xz").splitlines())
    return {word: phones for word, _, phones in lines}
