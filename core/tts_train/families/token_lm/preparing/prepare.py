"""The prepare job: recordings with text, or rows of ids, to a folder of training rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tts_train.contract.prepare import Census, Done, Encoding, ShardedPrepare, optional_decoders
from tts_train.contract.reports import Report
from tts_train.errors import DataError
from tts_train.run.places import whole_paths

if TYPE_CHECKING:
    from tts_train.corpus import Corpus, RowReader
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.preparing.chunk import TokenEncodeOptions

TINY = "tiny"
"""The tokenizer of every model that needs no file."""

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class TokenPrepare(ShardedPrepare):
    """Turn recordings with text into tokens; the same command again continues, or reuses what is there."""

    token_lm: ClassVar[TokenLM]
    """What kind of model the data are for; a backend's subclass says it."""

    codec: str
    """Codec: a hub name or a local folder."""
    tokenizer: str
    """Tokenizer of the model to train: a hub name, a local folder, or ``tiny``."""
    dedup: bool = True
    """Drop frames that repeat the coarse code of the one before, as the released models were trained."""
    voice_prefix: Literal["auto", "always", "never"] = "auto"
    """Put ``speaker: `` before the text; ``auto`` does so if the corpus names more than one speaker."""

    def run(self) -> Report:
        """Encode what is not encoded yet, write the index, and report."""
        report = super().run()
        _say(report, self.dedup)
        return report

    def encoding(self, corpus: Corpus, census: Census) -> Encoding:
        """Say with which codec and tokenizer, and whether voices are named in the text."""
        from tts_train.families.token_lm.preparing.encode import encode_chunk, open_store

        options = self._options(census)
        if census.labelled:
            _log.info("%d rows have labels: fit takes a loss where they are not -100.", census.labelled)
        work = partial(encode_chunk, token_lm=self.token_lm, options=options, out=self.out, root=corpus.root)
        sources = {"codec": self.codec, "tokenizer": self.tokenizer}
        settings = {**options.address(), **sources, **whole_paths(sources, names=self.token_lm.built_in)}
        return Encoding(
            work=work, store=open_store(self.token_lm, self.out, labelled=options.labelled), settings=settings
        )

    def reader(self, corpus: Corpus) -> RowReader | None:
        """Return what reads a row as the processes of this job do; nothing is downloaded for it."""
        from tts_train.corpus import Limits
        from tts_train.families.token_lm.preparing.encode import check_row

        # The built-in tokenizer knows the same control tokens as the one that would be downloaded.
        tokenizer = self.tokenizer if Path(self.tokenizer).is_dir() else TINY
        limits = Limits(min_seconds=self.min_seconds, max_seconds=self.max_seconds)
        named = self.voice_prefix != "never"
        return partial(
            check_row, token_lm=self.token_lm, tokenizer=tokenizer, named=named, limits=limits, root=corpus.root
        )

    def facts(self, done: Sequence[Done]) -> Mapping[str, Any]:
        """Count frames, and those that repeat the one before."""
        accounts = [one.shard.account for one in done]
        frames = sum(account["frames"] for account in accounts)
        repeated = sum(account["frames_repeated"] for account in accounts)
        share = round(repeated / (frames + repeated), 4) if frames else 0.0
        return {"frames": frames, "frames_repeated": repeated, "frames_repeated_share": share}

    def _options(self, census: Census) -> TokenEncodeOptions:
        import xxhash

        from tts_train.families.token_lm.preparing.chunk import TokenEncodeOptions
        from tts_train.families.token_lm.preparing.encode import codec_on, tokenizer_of
        from tts_train.parallel.devices import choose_device, own_device

        device = choose_device(self.device)
        vocabulary = tokenizer_of(self.token_lm, self.tokenizer).backend_tokenizer.to_str()
        codec = codec_on(self.token_lm, self.codec, own_device(device) if self.computes_here else "cpu")
        return TokenEncodeOptions(
            codec=self.codec,
            codec_fingerprint=codec.fingerprint,
            tokenizer=self.tokenizer,
            tokenizer_fingerprint=xxhash.xxh3_64_hexdigest(vocabulary.encode()),
            dedup=self.dedup,
            voice_prefix=_prefix(self.voice_prefix, census),
            min_seconds=self.min_seconds,
            max_seconds=self.max_seconds,
            decoders=optional_decoders(),
            device=device,
            labelled=census.labelled > 0,
        )


def _prefix(choice: str, census: Census) -> bool:
    """Decide whether voices are named in the text, and say what that leaves open."""
    named, nameless = census.named, census.speakers[None]
    if choice == "always" and not named and census.speakers:
        raise DataError(
            "--voice_prefix always: the corpus names no speaker. Add a column (speaker or source), "
            "or use --voice_prefix never."
        )
    if choice == "never" and named > 1:
        _log.warning("%d speakers and --voice_prefix never: their voices will blend. Leave it at auto.", named)
    prefix = choice == "always" or (choice == "auto" and named > 1)
    if prefix and nameless:
        _log.warning("%d rows name no speaker and get no prefix; their voice will not answer to a name.", nameless)
    if prefix:
        _log.info("Texts get the speaker's name in front (%d speakers), as in 'tara: Hello.'", named)
    return prefix


def _say(report: Report, dedup: bool) -> None:
    if dedup and report["frames_repeated"]:
        _log.info(
            "%d frames (%.1f %%) repeat the coarse code of the one before and were left out; --dedup false keeps them.",
            report["frames_repeated"],
            100 * report["frames_repeated_share"],
        )
