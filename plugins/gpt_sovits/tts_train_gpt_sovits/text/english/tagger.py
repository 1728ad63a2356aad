"""Tags English words with their part of speech, to tell homographs apart.

The averaged perceptron of Honnibal (2013) with the weights that NLTK distributes and upstream uses, rounded to one
decimal; features as published there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tts_train_gpt_sovits.text.package_data import read_text

_BEFORE, _AFTER = ("-START-", "-START2-"), ("-END-", "-END2-")


class Tagger:
    """Tags a sentence of tokens with Penn Treebank tags."""

    def __init__(self) -> None:
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
