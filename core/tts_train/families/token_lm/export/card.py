"""The README.md of an export: where it comes from, and how to use it, in lines that work."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.speaking.sources import TrainedRun

Kind = Literal["model", "adapter"]

_HEAD = """---
{fields}
---

# {title}

{article} text-to-speech {kind}, trained with tts-train {version}.

| | |
| --- | --- |
| base | `{base}` |
| method | {method} |
| optimiser steps | {step} |
| data | {data} |
| weights | {dtype} |

{about}
Sampling: temperature {temperature}, top_p {top_p}, repetition_penalty {penalty}.
{notes}
"""

_USE = """## To sound

`tts-train synth FOLDER --text "..." --out speech.wav` speaks with it.
"""

_TRIED = """
## Tried with

Folders and files of this kind, not this very model: {clients}. Greedy tokens were the same in each. vLLM was not tried.
"""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What the sections of a card are written from."""

    title: str
    """The folder's name, without characters that would end a string."""
    kind: Kind
    base: str
    codec: str
    example: str
    """A text, with a voice that the model knows."""
    rows_trained: bool
    """Whether an adapter brings an embedding of its own."""


@dataclass(frozen=True, kw_only=True)
class CardText:
    """What a card says of one kind of model."""

    article: str
    """The beginning of the first sentence, before "text-to-speech model": ``A Llasa``."""
    licence: str
    """Paragraph on the licence of the released model."""
    licence_name: str = "other"
    tags: tuple[str, ...] = ()
    """Tags of the model's page on the hub."""
    about: str
    """Paragraph on the tokens; ``{codec}`` stands for the codec's name."""
    use: Callable[[CardFacts], str] | None = None
    """Returns the sections that show how to speak with it; None for the command of this tool."""
    tried: Mapping[str, str] = field(default_factory=dict)
    """Versions of other programs that exports were tried with, by ``kind``."""


def model_card(run: TrainedRun, *, title: str, kind: Kind, dtype: str, rows_trained: bool = False) -> str:
    """Return the text of README.md.

    Args:
        run: What was exported.
        title: The folder's name.
        kind: A whole model or an adapter.
        dtype: Type of the weights, for the reader.
        rows_trained: Whether an adapter brings an embedding of its own.
    """
    token_lm = run.token_lm
    text, sampling = token_lm.card or _plain(token_lm), token_lm.sampling
    facts = CardFacts(
        # Both end up in lines of Python and YAML, which a quote or a brace would break.
        title=re.sub(r'[\\"{}\n]', "_", title),
        kind=kind,
        base=run.base,
        codec=re.sub(r'[\\"`\n]', "_", run.codec or token_lm.codec),
        example=f"{run.speakers[0]}: Hello there." if run.speakers else "Hello there.",
        rows_trained=rows_trained,
    )
    head = _HEAD.format(
        fields=_fields(run, kind, text),
        title=facts.title,
        article=text.article,
        kind=kind,
        version=version("tts-train"),
        base=run.base,
        method=run.method,
        step=run.checkpoint.step,
        data=_data(run),
        dtype=dtype,
        about=text.about.format(codec=facts.codec),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        penalty=sampling.repetition_penalty,
        notes=_notes(run),
    )
    use = text.use(facts) if text.use is not None else _USE
    tried = _TRIED.format(clients=text.tried[kind]) if kind in text.tried else ""
    return f"{head}\n{use}{tried}\n## Licence\n\n{text.licence}\n"


def _plain(token_lm: TokenLM) -> CardText:
    """Return what can be said of a model whose backend says nothing."""
    layout = token_lm.layout
    about = (
        f"It continues a line of text with tokens of the codec `{{codec}}`, {layout.tokens_per_second:.1f} a second "
        f"of speech, and stops with token {layout.end_of_speech}."
    )
    licence = "The licence of the released model applies, and the terms under which you hold the recordings."
    return CardText(article=f"A {token_lm.name}", licence=licence, about=about)


def _fields(run: TrainedRun, kind: Kind, text: CardText) -> str:
    lines = ["license: other", f"license_name: {text.licence_name}", "pipeline_tag: text-to-speech"]
    lines += [f"library_name: {'transformers' if kind == 'model' else 'peft'}"]
    # Only a hub name may stand there: the hub refuses a page that names a local path.
    if re.fullmatch(r"[\w.-]+/[\w.-]+", run.base):
        lines += [f"base_model: {run.base}", f"base_model_relation: {'finetune' if kind == 'model' else 'adapter'}"]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in (*text.tags, "text-to-speech", "tts-train"))])


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
            else f"the {run.token_lm.layout.codebook_size:,} codes of the slot that is due, or the stop token"
        )
        notes += (
            f"\nIt was trained with its output held to {held}: hold generation to them too (`allowed_token_ids` in "
            "vLLM, a logits processor in transformers; `tts-train synth` does so by itself).\n"
        )
    return notes
