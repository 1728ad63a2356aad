"""The prepare job: recordings with text, or rows of ids, to a folder of training rows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tts_train.contract.encoder import Census, RowEncoder
from tts_train.contract.prepare import ShardedPrepare
from tts_train.contract.reports import Report
from tts_train.errors import DataError

if TYPE_CHECKING:
    from tts_train.families.token_lm.model import TokenLM


# Options are read from this block too, for --help: nothing in it may load torch.

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

    def reading(self) -> RowEncoder:
        """Return what reads a row; nothing is downloaded for it."""
        # The built-in tokenizer knows the same control tokens as the one that would be downloaded.
        tokenizer = self.tokenizer if Path(self.tokenizer).is_dir() else TINY
        return self.encoder_class()(
            token_lm=self.token_lm, tokenizer=tokenizer, voice_prefix=self.voice_prefix != "never"
        )

    def encoder_class(self) -> Callable[..., RowEncoder]:
        """Return the class of what makes rows."""
        from tts_train.families.token_lm.data.encode import TokenEncoder

        return TokenEncoder

    @property
    def codec_source(self) -> str:
        """What the codec is loaded by."""
        return self.codec

    def names_voices(self, census: Census) -> bool:
        """Decide whether rows name their speaker, and say what that leaves open.

        Raises:
            DataError: if names are asked for and the corpus has none.
        """
        return _prefix(self.voice_prefix, census)

    def more(self, census: Census, device: str) -> dict[str, Any]:
        """Return further fields of what makes rows, or other values of some, by what is in the corpus."""
        del census, device
        return {}

    def encoder(self, census: Census, device: str) -> RowEncoder:
        """Say with which codec and tokenizer, and whether voices are named in the text."""
        import xxhash

        from tts_train.families.token_lm.data.encode import codec_on, tokenizer_of

        # Table and rules, as what a hub name stands for may change.
        vocabulary = tokenizer_of(self.token_lm, self.tokenizer).backend_tokenizer.to_str()
        codec = codec_on(self.token_lm, self.codec_source, device)
        if census.labelled:
            _log.info("%d rows have labels: fit takes a loss where they are not -100.", census.labelled)
        fields: dict[str, Any] = {
            "token_lm": self.token_lm,
            "codec": self.codec,
            "codec_fingerprint": codec.fingerprint,
            "tokenizer": self.tokenizer,
            "tokenizer_fingerprint": xxhash.xxh3_64_hexdigest(vocabulary.encode()),
            "dedup": self.dedup,
            "voice_prefix": self.names_voices(census),
            "labelled": census.labelled > 0,
        }
        return self.encoder_class()(**fields | self.more(census, device))


def _prefix(choice: str, census: Census) -> bool:
    """Decide whether voices are named in the text, and say what that leaves open."""
    named, nameless = census.named, census.speakers[None]
    if choice == "always" and not named and census.speakers:
        raise DataError(
            "--voice_prefix always: the corpus names no speaker. Add a column (speaker or source), "
            "or use --voice_prefix never."
        )
    # A warning and no error: blending voices may be what is wanted.
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
