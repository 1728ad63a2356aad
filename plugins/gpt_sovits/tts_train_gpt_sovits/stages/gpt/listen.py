"""What a GPT in training says: held-out texts, through the SoVITS that made its data's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tts_train.contract.voice import Passage, Uttered, precision_of, take_turns
from tts_train.datasets.store.shards import PreparedSet
from tts_train.errors import ConfigError
from tts_train.sound import Sound
from tts_train_gpt_sovits.networks.gpt.generate import MAX_CODES, SamplingOptions, generate
from tts_train_gpt_sovits.networks.gpt.packing import BERT_WIDTH
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.preparing.encode import front_end
from tts_train_gpt_sovits.preparing.models import TINY
from tts_train_gpt_sovits.released.bases import REPOSITORY, place_in_models
from tts_train_gpt_sovits.signal.audio import FULL_SCALE
from tts_train_gpt_sovits.stages.gpt.batches import CODES_PER_SECOND
from tts_train_gpt_sovits.stages.gpt.data import GptData
from tts_train_gpt_sovits.starts.sovits_restore import load_generator
from tts_train_gpt_sovits.voice.reference import Reference, reference_from_data
from tts_train_gpt_sovits.voice.voice import Voice

if TYPE_CHECKING:
    from tts_train.contract.module import StageModule
    from tts_train_gpt_sovits.networks.gpt.network import GptNetwork

USUAL_ROWS = 200
"""Rows from which the usual length of a text is learned."""
_WITH_FEATURES = "zh"


class GptVoice:
    """Speaks with a module's network as it stands; each speaker continues an utterance of the training data.

    Args:
        module: The module in training, attached to its trainer and data.
        network: What of it speaks.

    Raises:
        ConfigError: if the data do not say which SoVITS made them, or it is not on this machine.
    """

    tokens_per_second = float(CODES_PER_SECOND)

    def __init__(self, module: StageModule, network: GptNetwork) -> None:
        self._module = module
        data = module.stage_data
        rows = data.val_set if isinstance(data, GptData) else None
        if rows is None or not len(rows.parts[0]):
            raise ConfigError("This run has no validation set, so there is nothing to speak (--data.val_share).")
        self._rows = rows.parts[0].rows
        self._languages = rows.parts[0].languages
        self._data = PreparedSet(rows.parts[0].prepared.path, length_of="codes")
        sovits = _local_sovits(self._data)
        sovits.requires_grad_(False).eval().to(module.device)
        self._voice = Voice(gpt=network, sovits=sovits, bert=None)
        self._references: dict[str | None, Reference] = {}
        self._targets: dict[str, tuple[Tensor, Tensor]] = {}

    def held_out(self, count: int) -> Sequence[Passage]:
        """Return validation rows, languages in turn, with their recordings and what SoVITS makes of their tokens."""
        places = take_turns(self._languages, count)
        return [self._held(number + 1, int(self._rows[place])) for number, place in enumerate(places)]

    def passage(self, name: str, text: str) -> Passage:
        """Return a text in the language of the data's reference.

        Raises:
            ConfigError: if it is Chinese, which would need one more network.
            TTSTrainError: if it cannot be read.
        """
        language = self._reference(None).language
        if language == _WITH_FEATURES:
            raise ConfigError("Chinese texts need a network of text features: let --listen.sentences be a number.")
        said = front_end(str(self._data.settings["version"])).speak(text, language)
        phonemes = torch.tensor(said.ids)
        self._targets[name] = phonemes, torch.zeros(len(phonemes), BERT_WIDTH)
        return Passage(name=name, text=text, language=language, tokens=self._usual_pace() * len(phonemes))

    def speak(self, passage: Passage, *, seed: int, max_tokens: int) -> Uttered:
        """Continue the reference with a passage's phonemes, and let SoVITS sound the codes."""
        network, reference = self._voice.gpt, self._reference(passage.speaker)
        phonemes, features = self._targets[passage.name]
        device = network.head.weight.device
        chance = torch.Generator(device).manual_seed(seed)
        with precision_of(self._module.trainer):
            said = generate(
                network,
                torch.cat([reference.phonemes, phonemes]),
                reference.codes,
                bert=torch.cat([reference.bert, features]),
                options=SamplingOptions(max_codes=min(max_tokens, MAX_CODES)),
                generator=chance,
            )
        sound = self._sound(said.codes, phonemes, reference, chance)
        return Uttered(sound=sound, tokens=said.codes.tolist(), ended=said.ended)

    def _held(self, number: int, row: int) -> Passage:
        columns = self._data.row(row)
        name = f"utterance-{number}"
        phonemes, codes = (torch.from_numpy(columns[key].astype(np.int64)) for key in ("phonemes", "codes"))
        self._targets[name] = phonemes, _features(columns, len(phonemes))
        reference = self._reference(columns.get("speaker"))
        chance = torch.Generator(self._voice.gpt.head.weight.device).manual_seed(0)
        wave = columns["wave"].astype(np.float32) / FULL_SCALE
        return Passage(
            name=name,
            text=str(columns["text"]),
            id=columns.get("id"),
            speaker=columns.get("speaker"),
            language=columns.get("language"),
            tokens=len(codes),
            recording=Sound(wave, self._voice.sample_rate),
            ceiling=self._sound(codes, phonemes, reference, chance),
        )

    def _sound(self, codes: Tensor, phonemes: Tensor, reference: Reference, chance: torch.Generator) -> Sound:
        if not len(codes):
            return Sound(np.zeros(0, np.float32), self._voice.sample_rate)
        made = self._voice.sound(codes, phonemes, reference, generator=chance)
        return Sound(made.numpy(), self._voice.sample_rate)

    def _reference(self, speaker: str | None) -> Reference:
        if speaker not in self._references:
            self._references[speaker] = reference_from_data(str(self._data.path), speaker=speaker)
        return self._references[speaker]

    def _usual_pace(self) -> float:
        """Return the codes of a phoneme, the median over some rows."""
        count = min(len(self._data), USUAL_ROWS)
        sizes = [self._data.rows.list_lengths(name)[:count] for name in ("codes", "phonemes")]
        return float(np.median(sizes[0] / np.maximum(sizes[1], 1)))


def _features(row: Mapping[str, Any], phonemes: int) -> Tensor:
    flat = row.get("bert")
    if flat is None or not len(flat):
        return torch.zeros(phonemes, BERT_WIDTH)
    return torch.from_numpy(np.array(flat, dtype=np.float32)).view(-1, BERT_WIDTH)


def _local_sovits(data: PreparedSet) -> SovitsNetwork:
    """Load the SoVITS that a set was prepared with, from this machine.

    Raises:
        ConfigError: if it is not known, would have to be downloaded, or makes no sound by itself.
    """
    from huggingface_hub import try_to_load_from_cache

    source, version = data.settings.get("sovits"), data.settings.get("version")
    if source is None or version is None or "wave" not in data.rows.names:
        raise ConfigError(f"{data.path} does not say which SoVITS made it; `tts-train prepare` writes sets that do.")
    if source != TINY and not Path(source).expanduser().exists():
        cached = try_to_load_from_cache(REPOSITORY, place_in_models("s2G", version))
        if not isinstance(cached, str):
            raise ConfigError(
                f"The SoVITS {source} is not on this machine, and training downloads nothing to be heard. Run any "
                "command that uses it once (tts-train synth), or set --listen.sentences 0."
            )
    network = load_generator(source, version=version, speaking=True).network
    if not isinstance(network, SovitsNetwork):
        raise ConfigError(f"SoVITS {version} is sounded by a vocoder of upstream's, which is not here.")
    return network
