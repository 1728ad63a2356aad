"""The README.md of an export: where it comes from, and how to use it, in lines that work."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Literal

from tts_train_orpheus import layout
from tts_train_orpheus.sources import TrainedRun
from tts_train_orpheus.synth import CODEC

Kind = Literal["model", "adapter"]
_OWN_CODECS = ("tiny", "random")

_LICENCE = """Orpheus is published under Apache-2.0 and derives from Llama 3.2, whose community licence applies as well:
read both before you pass this model on, and follow the terms under which you hold the recordings and the voice."""

_HEAD = """---
{fields}
---

# {title}

An Orpheus text-to-speech {what}, trained with tts-train {version}.

| | |
| --- | --- |
| base | `{base}` |
| method | {method} |
| optimiser steps | {step} |
| data | {data} |
| weights | {dtype} |

It continues a line of text with tokens of the codec `{codec}`, laid out as
[SNAC](https://github.com/hubertsiuzdak/snac)'s, {rate:.1f} a second of speech, and stops with token {stop}.
Sampling: temperature 0.6, top_p 0.95, repetition_penalty 1.1.
{notes}
"""

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

_TRIED = """
## Tried with

Folders and files of this kind, not this very model: {clients}. Greedy tokens were the same in each. vLLM was not tried.
"""

_CLIENTS = {
    "model": "transformers 4.57.6 and 5.23.0",
    "adapter": "PEFT 0.17.1 with transformers 4.57.6, PEFT 0.21.2 with transformers 5.23.0",
}

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

_RESIZE = "\nbase.resize_token_embeddings(156940)  # the adapter brings rows for all tokens"


def model_card(run: TrainedRun, *, title: str, kind: Kind, dtype: str, rows_trained: bool = False) -> str:
    """Return the text of README.md.

    Args:
        run: What was exported.
        title: The folder's name.
        kind: A whole model or an adapter.
        dtype: Type of the weights, for the reader.
        rows_trained: Whether an adapter brings an embedding of its own.
    """
    title = re.sub(r'[\\"{}\n]', "_", title)
    ids = {
        **{
            "soh": layout.START_OF_HUMAN,
            "eoh": layout.END_OF_HUMAN,
            "soa": layout.START_OF_AI,
            "bos": layout.BEGIN_OF_TEXT,
        },
        **{"sos": layout.START_OF_SPEECH, "stop": layout.END_OF_SPEECH, "eot": layout.END_OF_TURN},
        **{"first": layout.AUDIO_BASE, "end": layout.AUDIO_END, "rate": layout.TOKENS_PER_SECOND},
    }
    facts = {
        "title": title,
        "base": run.base,
        "method": run.method,
        "step": run.checkpoint.step,
        "version": version("tts-train"),
    }
    resize = _RESIZE if rows_trained else ""
    load = (_LOAD_MODEL if kind == "model" else _LOAD_ADAPTER).format(**facts, resize=resize)
    example = f"{run.speakers[0]}: Hello there." if run.speakers else "Hello there."
    what = {"fields": _fields(run, kind), "what": kind, "data": _data(run), "dtype": dtype, "notes": _notes(run)}
    codec = re.sub(r'[\\"`\n]', "_", run.codec or CODEC)
    sound = (_OWN_SOUND if codec in _OWN_CODECS else _SOUND).format(codec=codec, **ids)
    text = _HEAD.format(**facts, **ids, **what, codec=codec)
    text += "\n" + _TRANSFORMERS.format(load=load, example=example, sound=sound, **ids)
    if kind == "model":
        text += _VLLM.format(title=title, example=example, **ids) + _LLAMA.format(**ids)
    return f"{text}{_TRIED.format(clients=_CLIENTS[kind])}\n## Licence\n\n{_LICENCE}\n"


def _fields(run: TrainedRun, kind: Kind) -> str:
    lines = ["license: other", "license_name: apache-2.0-and-llama3.2", "pipeline_tag: text-to-speech"]
    lines += [f"library_name: {'transformers' if kind == 'model' else 'peft'}"]
    if re.fullmatch(r"[\w.-]+/[\w.-]+", run.base):
        lines += [f"base_model: {run.base}", f"base_model_relation: {'finetune' if kind == 'model' else 'adapter'}"]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in ("orpheus", "snac", "text-to-speech", "tts-train"))])


def _data(run: TrainedRun) -> str:
    report = run.data.get("report", {})
    if not report.get("hours"):
        return "not known"
    names = f", {len(report['speakers'])} named speakers" if report.get("speakers") else ""
    return f"{report['hours']:.2f} hours, {report.get('kept', '?')} recordings{names}"


def _notes(run: TrainedRun) -> str:
    notes = ""
    if run.speakers:
        some = ", ".join(f"`{name}`" for name in run.speakers[:12])
        more = f" and {len(run.speakers) - 12} more" if len(run.speakers) > 12 else ""
        notes += f"\nVoices: {some}{more}. Put one before the text: `{run.speakers[0]}: Hello there.`\n"
    if run.softmax != "full":
        held = (
            "the added tokens"
            if run.softmax == "audio"
            else "the 4,096 codes of the slot that is due, or the stop token"
        )
        notes += (
            f"\nIt was trained with its output held to {held}: hold generation to them too (`allowed_token_ids` in "
            "vLLM, a logits processor in transformers; `tts-train synth` does so by itself).\n"
        )
    return notes
