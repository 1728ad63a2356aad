"""Guesses the phones of a word that no dictionary has, letter by letter.

The encoder-decoder of g2p_en (Park and Kim, 2019), which upstream uses, with its weights in half precision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tts_train_gpt_sovits.text.package_data import read_arrays

_LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
_PHONES_TEXT = """
<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2
ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2
UW UW0 UW1 UW2 V W Y Z ZH
"""
_PHONES = tuple(_PHONES_TEXT.split())
_START, _END = _PHONES.index("<s>"), _PHONES.index("</s>")
_LONGEST = 20
# Upstream drops what is no phone of its table, a stressless UW among it.
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
