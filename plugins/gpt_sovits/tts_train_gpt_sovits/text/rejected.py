"""Why a text cannot be spoken: the one error of the text front end."""

from __future__ import annotations

from tts_train.contract import DataError

REASONS = (
    "empty_text",  # nothing that can be spoken is left
    "language_not_enabled",  # the caller allowed fewer languages than the row needs
    "language_not_in_v1",  # v1's table has zh, ja and en only
    "no_language",  # the row names no language and the caller gave no default
    "unknown_language",  # a code that is none of the five
    "unknown_phone",  # a phone that is not in the version's table
    "unreadable_text",  # a character that the language's dictionary cannot read
    "unsupported_script",  # letters of a script that none of the five languages uses
)


class TextRejected(DataError):
    """A row whose text cannot be turned into phonemes; `prepare` drops the row with `reason`.

    Args:
        reason: stable, in snake case, for ledgers: one of `REASONS` here, others from those who use the front end.
        detail: what was given, what is allowed, what to do next.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[TextRejected], tuple[str, str]]:
        return TextRejected, (self.reason, self.detail)  # so that worker processes can hand it back
