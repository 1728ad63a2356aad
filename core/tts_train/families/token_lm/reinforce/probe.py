"""What training on takes is measured by: the log-probability of a take is that with which it was drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tts_train.families.token_lm.preference.probe import FramePairProbe, PairProbe
from tts_train.families.token_lm.reinforce.takes import made_up_batch

_MOVED = 1e-2


class GroupProbe(PairProbe):
    """Measures a ``ReinforceModule`` on groups of utterances that its network draws.

    What stands for a loss is the log-probability of all that was drawn, as it enters the ratio: where it is that of the
    draw, the ratio is 1 before the first step.
    """

    def batches(self, rows: Sequence[Any]) -> Mapping[str, Any]:
        """Return each pair as a text with two takes, all of them in one batch."""
        groups = [row.pair.group for row in rows]
        return {"packed": made_up_batch(groups, self._model.layout)}

    @contextmanager
    def still(self) -> Iterator[None]:
        """Drop nothing, with adapters that are not 0."""
        # Takes that are worth the same teach nothing, and an adapter that was not moved hides its first half.
        named = self.module.named_parameters()
        unmoved = [each for name, each in named if "lora_B" in name and not each.count_nonzero()]
        with super().still():
            for each in unmoved:
                each.data.fill_(_MOVED)
            try:
                yield
            finally:
                for each in unmoved:
                    each.data.zero_()


class FrameGroupProbe(GroupProbe, FramePairProbe):
    """The same for frames."""
