"""The prepare job: recordings with text to one set of rows that every stage trains on."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tts_train.contract import (
    Census,
    ConfigError,
    Encoding,
    PrepareReport,
    Report,
    ShardedPrepare,
    optional_decoders,
    whole_paths,
)
from tts_train.disk import require_apart
from tts_train_gpt_sovits.preparing.models import TINY
from tts_train_gpt_sovits.released.bases import RELEASED

if TYPE_CHECKING:
    from tts_train.corpus import Corpus, RowReader
    from tts_train_gpt_sovits.preparing.chunk import GptSovitsEncodeOptions, Sources

Version = Literal["v1", "v2", "v3", "v4", "v2Pro", "v2ProPlus"]


@dataclass(kw_only=True)
class GptSovitsPrepare(ShardedPrepare):
    """Turn recordings with text into phonemes, semantic tokens and training audio, for all stages at once.

    The same command again continues, or reuses what is there.
    """

    version: Version = "v2"
    """Version of GPT-SoVITS that will be trained: it decides the phoneme table and the networks."""
    language: str | None = None
    """Language of rows that name none: zh, en, ja, ko, yue, or ``auto`` to tell by the text; else they are dropped."""
    models: str = "released"
    """The networks of preparation: ``released`` (downloaded when needed), upstream's folder ``pretrained_models``, or
    ``tiny`` (small and seeded, built in, for trying things out)."""
    hubert: str | None = None
    """Network of the speech features, if it is elsewhere: a folder, a hub name, or ``tiny``."""
    sovits: str | None = None
    """SoVITS file whose quantizer makes the semantic tokens, if it is elsewhere: the base to be trained."""
    bert: str | None = None
    """Network of the Chinese text features, if it is elsewhere."""
    speaker_net: str | None = None
    """Network of the speaker vectors of the Pro versions, if it is elsewhere."""
    keep_ssl: bool = False
    """Keep the speech features too (280 MB an hour): for training the quantizer, and for ``--experiment``."""
    remake: bool = False
    """Make the features of an experiment folder of upstream's anew from its audio, rather than take them over."""
    experiment: Path | None = None
    """Also write upstream's experiment folder (``2-name2text.txt``, ``4-cnhubert`` and so on) here."""
    slices: bool = False
    """Only cut long recordings at silences, into --out, and draft ``slices.list`` there; then see to its texts and
    prepare that."""
    transcribe: str | None = None
    """With --slices, fill in the texts by faster-whisper (extra ``asr``): its size, a hub name or a folder."""
    min_seconds: float = 0.6
    """Recordings (or stretches) shorter than this are dropped."""
    max_seconds: float = 54.0
    """Recordings (or stretches) longer than this are dropped."""
    shard_rows: int = 32
    """Rows in a shard, on average: what a worker takes at a time, and what is redone after a kill or a change."""

    def run(self) -> Report:
        """Encode what is not encoded yet, write the index, and report."""
        if self.slices:
            self.check_places()
            return self._slice()
        self.keep_ssl = self.keep_ssl or self.experiment is not None
        report = super().run()
        if self.experiment is None:
            return report
        from tts_train_gpt_sovits.released.experiment.write import write_prepared

        clips = write_prepared(self.experiment, self.out)
        return replace(report, more={**report.more, "experiment": str(self.experiment), "clips": clips})

    def check_places(self) -> None:
        """Refuse outputs, the experiment folder included, that are the corpus, lie in it or hold it."""
        super().check_places()
        if self.transcribe is not None and not self.slices:
            raise ConfigError(
                f"--transcribe {self.transcribe} fills in the texts of slices: add --slices, which cuts the recordings "
                "into --out, and prepare that folder afterwards."
            )
        if self.experiment is not None:
            require_apart(self.corpus, self.experiment, given="--corpus", option="--experiment")

    def _slice(self) -> Report:
        from tts_train_gpt_sovits.preparing.slices import slice_recordings, whisper
        from tts_train_gpt_sovits.signal.audio import SliceOptions

        transcribe = whisper(self.transcribe) if self.transcribe else None
        figures = slice_recordings(
            self.corpus, self.out, language=self.language, transcribe=transcribe, options=SliceOptions()
        )
        return Report(more=figures)

    def _prepare(self) -> PrepareReport:
        return self._take_over() if self._takes_over() else super()._prepare()

    def _take_over(self) -> PrepareReport:
        """Use every feature of an experiment folder as it is."""
        from tts_train.corpus import Ledger
        from tts_train_gpt_sovits.features.semantic import SemanticTokens
        from tts_train_gpt_sovits.preparing.adopt import adopt_rows, check_tokens
        from tts_train_gpt_sovits.preparing.encode import open_store

        started = time.monotonic()
        sources = self._sources()
        tokens = SemanticTokens.load(sources.sovits)
        check_tokens(self.corpus, self.version, tokens)
        store, ledger = open_store(self.out), Ledger()
        settings = {
            "version": self.version,
            "quantizer": tokens.fingerprint,
            **self._remembered(sources),
            "taken_from": str(self.corpus),
        }
        with self.holding():
            began = time.monotonic()
            rows = adopt_rows(
                self.corpus, store, ledger, version=self.version, keep_ssl=self.keep_ssl, shard_rows=self.shard_rows
            )
            return self._finish(store, settings, ledger, list(rows), started=started, began=began)

    def encoding(self, corpus: Corpus, census: Census) -> Encoding:
        """Say by which networks, tables and front end."""
        from tts_train_gpt_sovits.preparing.encode import encode_chunk, open_store

        options = self._options(census)
        settings = {**options.address(), **self._remembered(options.sources)}
        work = partial(encode_chunk, options=options, out=self.out, root=corpus.root)
        return Encoding(work=work, store=open_store(self.out), settings=settings)

    def reader(self, corpus: Corpus) -> RowReader | None:
        """Return what reads a row as the processes of this job do; None where features are taken over as they are."""
        from tts_train.corpus import Limits
        from tts_train_gpt_sovits.preparing.encode import check_row

        if self._takes_over():
            return None
        limits = Limits(min_seconds=self.min_seconds, max_seconds=self.max_seconds)
        return partial(check_row, version=self.version, language=self.language, limits=limits, root=corpus.root)

    def _takes_over(self) -> bool:
        from tts_train_gpt_sovits.preparing.adopt import is_experiment

        return not self.remake and self.corpus_format in ("auto", "experiment") and is_experiment(self.corpus)

    def _options(self, census: Census) -> GptSovitsEncodeOptions:
        from tts_train.contract import choose_device, own_device
        from tts_train_gpt_sovits.preparing.chunk import GptSovitsEncodeOptions
        from tts_train_gpt_sovits.preparing.encode import front_end, networks_on
        from tts_train_gpt_sovits.signal.versions import find_version

        sources = self._sources()
        device = choose_device(self.device)
        networks = networks_on(
            sources,
            own_device(device) if self.computes_here else "cpu",
            _speaks_chinese(census, self.language),
            find_version(self.version).speaker,
        )
        return GptSovitsEncodeOptions(
            version=self.version,
            language=self.language,
            sources=sources,
            hubert=networks.hubert.fingerprint,
            quantizer=networks.semantic.fingerprint,
            bert=networks.bert.fingerprint if networks.bert else None,
            speaker=networks.speaker.fingerprint if networks.speaker else None,
            text=front_end(self.version, self.language).fingerprint,
            keep_ssl=self.keep_ssl,
            min_seconds=self.min_seconds,
            max_seconds=self.max_seconds,
            decoders=optional_decoders(),
            device=device,
        )

    def _remembered(self, sources: Sources) -> dict[str, Any]:
        """Return where the networks are that speaking needs too; it may run in another folder."""
        given = {"sovits": sources.sovits, "models": self.models}
        return {**given, **whole_paths(given, names=(TINY, RELEASED))}

    def _sources(self) -> Sources:
        from tts_train_gpt_sovits.preparing.models import find_sources

        given = {"hubert": self.hubert, "sovits": self.sovits, "bert": self.bert, "speaker": self.speaker_net}
        return find_sources(self.models, self.version, **given)


def _speaks_chinese(census: Census, default: str | None) -> bool:
    """Whether any row may be Chinese, in whatever way the corpus names the language."""
    named = {language or default or "" for language in census.languages}
    return any(language == "auto" or language.lower().startswith(("zh", "cmn", "all_zh")) for language in named)
