"""What the released package says, greedily and in float32, as JSON: ``qwen_client.py REQUESTS.json``.

A request is a folder, what is to be spoken from it and which waves its codec is to encode; see ``speak`` for a case.
Waves are files of NumPy at 24 kHz.
"""

import contextlib
import json
import logging
import sys
from pathlib import Path

import numpy as np
import torch
from qwen_tts import Qwen3TTSModel

RATE = 24_000
GREEDY = {"do_sample": False, "subtalker_dosample": False}


class Told(logging.Handler):
    """What transformers warns of, such as keys that are missing from a file or that it doesn't know."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


class Kept:
    """A model's ``generate`` whose last answer is kept: the codes, which the package's own methods don't return."""

    def __init__(self, generate):
        self.generate, self.codes = generate, None

    def __call__(self, *args, **settings):
        answer = self.generate(*args, **settings)
        (self.codes,) = answer[0]
        return answer


def answer(request):
    told = Told()
    logging.getLogger("transformers").addHandler(told)
    model = Qwen3TTSModel.from_pretrained(request["folder"], dtype=torch.float32)
    logging.getLogger("transformers").removeHandler(told)
    model.model.generate = kept = Kept(model.model.generate)
    codec = model.model.speech_tokenizer
    said = {"told": told.messages, "speakers": model.get_supported_speakers()}
    said["spoken"] = [speak(model, kept, case) for case in request.get("speak", ())]
    waves = [np.load(file) for file in request.get("encode", ())]
    said["encoded"] = [codec.encode(wave, sr=RATE).audio_codes[0].tolist() for wave in waves]
    return said


def speak(model, kept, case):
    """A case has a text, and may have a language, a speaker, an instruction, and a reference: its wave and its text.

    ``full_text`` says which layout; without the reference's text the voice is its vector alone.
    """
    case = dict(case)
    reference, kind = case.pop("reference", None), model.model.tts_model_type
    settings = {**GREEDY, "non_streaming_mode": case.pop("full_text"), **case}
    said = {}
    if kind == "base":
        given = {"ref_audio": (np.load(reference["wave"]), RATE), "ref_text": reference.get("text")}
        voice = model.create_voice_clone_prompt(**given, x_vector_only_mode="text" not in reference)
        said["vector"] = voice[0].ref_spk_embedding.tolist()
        said["reference"] = [] if voice[0].ref_code is None else voice[0].ref_code.tolist()
        waves, rate = model.generate_voice_clone(voice_clone_prompt=voice, **settings)
    elif kind == "custom_voice":
        waves, rate = model.generate_custom_voice(**settings)
    else:
        waves, rate = model.generate_voice_design(**settings)
    assert (len(waves), rate) == (1, RATE)
    return {**said, "codes": kept.codes.tolist(), **described(waves[0])}


def described(wave):
    places = np.linspace(0, len(wave) - 1, 50).astype(int) if len(wave) else []
    return {"samples": len(wave), "rms": float(np.sqrt(np.mean(np.square(wave)))), "probe": wave[places].tolist()}


@torch.inference_mode()
def main(requests):
    torch.set_num_threads(1)
    # The package prints what it likes.
    with contextlib.redirect_stdout(sys.stderr):
        said = [answer(request) for request in requests]
    print("\n" + json.dumps(said))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
