"""What the README.md of an Orpheus export says of Orpheus: its ids, its codec, and how other programs speak with it."""

from __future__ import annotations

from tts_train.families.token_lm import CardFacts, CardText
from tts_train_orpheus import layout

_OWN_CODECS = ("tiny", "random")

_LICENCE = """Orpheus is published under Apache-2.0 and derives from Llama 3.2, whose community licence applies as well:
read both before you pass this model on, and follow the terms under which you hold the recordings and the voice."""

_CODEC = """It continues a line of text with tokens of the codec `{codec}`, laid out as
[SNAC](https://github.com/hubertsiuzdak/snac)'s, {rate:.1f} a second of speech, and stops with token {stop}."""

_TRANSFORMERS = """## With transformers

```python
import torch
{load}

text = "{example}"
human, turn = [{soh}, *tokenizer(text).input_ids, {eot}, {eoh}], [{soa}, {sos}]  # tokenizer() puts {bos} in front
prompt = torch.tensor([human + turn], device=model.device)
output = model.generate(prompt, max_new_tokens=1200)  # stops at {stop}; 1200 tokens are 14.6 s
audio = [t for t in output[0, prompt.shape[1]:].tolist() if {first} <= t < {end}]
```

{sound}
or, with a count of every token that does not fit: `tts-train synth FOLDER --text "..." --out speech.wav`.
"""

_SOUND = """## To sound

```python
import soundfile
from snac import SNAC

frames = torch.tensor(audio[: len(audio) // 7 * 7]).view(-1, 7) - {first} - 4096 * torch.arange(7)
levels = [frames[:, [0]], frames[:, [1, 4]], frames[:, [2, 3, 5, 6]]]
snac = SNAC.from_pretrained("{codec}").eval()
with torch.inference_mode():
    sound = snac.decode([level.reshape(1, -1) for level in levels])
soundfile.write("speech.wav", sound[0, 0].numpy(), 24000)
```
"""

_OWN_SOUND = """## To sound

Its codec is tts-train's own, `{codec}`, and no released one: only `tts-train synth` decodes it,
"""

_VLLM = """
## With vLLM

Pass token ids, not a string: a prompt that is tokenised again may get a second {bos} in front. Give `max_model_len`, or
memory is set aside for 131,072 tokens.

```python
from transformers import AutoTokenizer
from vllm import LLM, SamplingParams

name = "{title}"
tokenizer = AutoTokenizer.from_pretrained(name)
model = LLM(model=name, max_model_len=4096)
ids = [{soh}, *tokenizer("{example}").input_ids, {eot}, {eoh}, {soa}, {sos}]
sampling = SamplingParams(
    temperature=0.6, top_p=0.95, repetition_penalty=1.1, max_tokens=1200, stop_token_ids=[{stop}]
)
audio = model.generate([{{"prompt_token_ids": ids}}], sampling)[0].outputs[0].token_ids
```
"""

_LLAMA = """
## With llama.cpp

`tts-train export RUN --format gguf --dtype bf16 --out voice.gguf` writes its file from the training run; `q8_0` and
`q4_k` (Q4_K_M) make it smaller, and Orpheus is known to lose frames below 8 bits. To sample as above, tell
`llama-server` the order of its filters too: by itself it cuts by top_p before it applies the temperature, and looks
back over 64 tokens only.

```json
{{"prompt": [{soh}, {bos}, "... ids of the text ...", {eot}, {eoh}, {soa}, {sos}], "n_predict": 1200,
  "samplers": ["penalties", "temperature", "top_p"], "temperature": 0.6, "top_p": 0.95,
  "repeat_penalty": 1.1, "repeat_last_n": 4096}}
```
"""

_LOAD_MODEL = """from transformers import AutoModelForCausalLM, AutoTokenizer

name = "{title}"
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, dtype="auto")"""

_LOAD_ADAPTER = """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

name = "{title}"
tokenizer = AutoTokenizer.from_pretrained(name)
base = AutoModelForCausalLM.from_pretrained("{base}", dtype=torch.bfloat16){resize}
model = PeftModel.from_pretrained(base, name)"""

_RESIZE = "\nbase.resize_token_embeddings({rows})  # the adapter brings rows for all tokens"

_CLIENTS = {
    "model": "transformers 4.57.6 and 5.23.0",
    "adapter": "PEFT 0.17.1 with transformers 4.57.6, PEFT 0.21.2 with transformers 5.23.0",
}
_IDS = {
    "soh": layout.START_OF_HUMAN,
    "eoh": layout.END_OF_HUMAN,
    "soa": layout.START_OF_AI,
    "bos": layout.BEGIN_OF_TEXT,
    "sos": layout.START_OF_SPEECH,
    "stop": layout.END_OF_SPEECH,
    "eot": layout.END_OF_TURN,
    "first": layout.AUDIO_BASE,
    "end": layout.AUDIO_END,
    "rate": layout.TOKENS_PER_SECOND,
}


def _use(facts: CardFacts) -> str:
    resize = _RESIZE.format(rows=layout.VOCAB_SIZE) if facts.rows_trained else ""
    model = facts.kind == "model"
    load = (_LOAD_MODEL if model else _LOAD_ADAPTER).format(title=facts.title, base=facts.base, resize=resize)
    sound = (_OWN_SOUND if facts.codec in _OWN_CODECS else _SOUND).format(codec=facts.codec, **_IDS)
    text = _TRANSFORMERS.format(load=load, example=facts.example, sound=sound, **_IDS)
    if model:
        text += _VLLM.format(title=facts.title, example=facts.example, **_IDS) + _LLAMA.format(**_IDS)
    return text


CARD = CardText(
    article="An Orpheus",
    licence=_LICENCE,
    licence_name="apache-2.0-and-llama3.2",
    tags=("orpheus", "snac"),
    about=_CODEC.format(codec="{codec}", **_IDS),
    use=_use,
    tried=_CLIENTS,
)
