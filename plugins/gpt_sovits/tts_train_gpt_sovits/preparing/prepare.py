"""The prepare job: recordings with text to one set of rows that every stage trains on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tts_train.contract import Census, ConfigError, ReadyRows, Report, RowEncoder, ShardedPrepare, quoted

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
    """Became ``tts-train corpus slice``, for every backend; given here, it says what to type."""
    transcribe: str | None = None
    """Became ``tts-train corpus transcribe``; given here, it says what to type."""
    min_seconds: float = 0.6
    """Recordings (or stretches) shorter than this are dropped."""
    max_seconds: float = 54.0
    """Recordings (or stretches) longer than this are dropped."""
    shard_rows: int = 32
    """Rows in a shard, on average: what a worker takes at a time, and what is redone after a kill or a change."""

    def run(self) -> Report:
        """Encode what is not encoded yet, write the index, and report."""
        self._refuse_what_moved()
        self.keep_ssl = self.keep_ssl or self.experiment is not None
        report = super().run()
        if self.experiment is None:
            return report
        from tts_train_gpt_sovits.released.experiment_write import write_prepared

        clips = write_prepared(self.experiment, self.out)
        return replace(report, more={**report.more, "experiment": str(self.experiment), "clips": clips})

    def outputs(self) -> dict[str, Path]:
        """Return what is written, the experiment folder included."""
        given = {} if self.experiment is None else {"--experiment": self.experiment}
        return {"--out": self.out, **given}

    def check_places(self) -> None:
        """Refuse outputs that are the corpus, lie in it or hold it, and words of earlier versions."""
        # First, so that the commands that take these words' place are not refused for their --out.
        super().check_places()
        self._refuse_what_moved()

    def _refuse_what_moved(self) -> None:
        """Answer ``--slices`` and ``--transcribe`` with the commands that do that now, for every backend."""
        if not self.slices and self.transcribe is None:
            return
        given = "--slices" if self.slices else f"--transcribe {self.transcribe}"
        model = [] if self.transcribe is None else ["--model", self.transcribe]
        language = [] if self.language in (None, "auto") else ["--language", self.language]
        folder = self.out if self.slices else self.corpus
        commands = [
            *([("slice", self.corpus, "--out", self.out)] if self.slices else []),
            ("transcribe", folder, *model, *language),
            ("review", folder),
        ]
        lines = "\n  ".join(quoted("tts-train", "corpus", *words) for words in commands)
        raise ConfigError(
            f"{given} of prepare became commands of their own, for every backend. Type, a line at a time:\n  {lines}\n"
            f"and give {folder} to prepare as --corpus."
        )

    def reading(self) -> RowEncoder | ReadyRows:
        """Return what reads a row; an experiment folder's features are taken over as they are."""
        from tts_train_gpt_sovits.preparing.adopt import AdoptedRows, is_experiment
        from tts_train_gpt_sovits.preparing.encode import GptSovitsEncoder

        if self.remake or self.corpus_format not in ("auto", "experiment") or not is_experiment(self.corpus):
            return GptSovitsEncoder(version=self.version, language=self.language)
        return AdoptedRows(
            folder=self.corpus,
            version=self.version,
            models=self.models,
            given=self._given,
            keep_ssl=self.keep_ssl,
        )

    def encoder(self, census: Census, device: str) -> RowEncoder:
        """Say by which networks, tables and front end."""
        from tts_train_gpt_sovits.preparing.encode import GptSovitsEncoder, front_end, networks_on
        from tts_train_gpt_sovits.preparing.models import find_sources
        from tts_train_gpt_sovits.signal.versions import find_version

        sources = find_sources(self.models, self.version, **self._given)
        speaks_chinese = _speaks_chinese(census, self.language)
        networks = networks_on(sources, device, speaks_chinese, find_version(self.version).speaker)
        return GptSovitsEncoder(
            version=self.version,
            language=self.language,
            models=self.models,
            networks=sources,
            hubert=networks.hubert.fingerprint,
            quantizer=networks.semantic.fingerprint,
            bert=networks.bert.fingerprint if networks.bert else None,
            speaker=networks.speaker.fingerprint if networks.speaker else None,
            text=front_end(self.version, self.language).fingerprint,
            keep_ssl=self.keep_ssl,
        )

    @property
    def _given(self) -> dict[str, str | None]:
        return {"hubert": self.hubert, "sovits": self.sovits, "bert": self.bert, "speaker": self.speaker_net}


def _speaks_chinese(census: Census, default: str | None) -> bool:
    """Whether any row may be Chinese, in whatever way the corpus names the language."""
    named = {language or default or "" for language in census.languages}
    return any(language == "auto" or language.lower().startswith(("zh", "cmn", "all_zh")) for language in named)
