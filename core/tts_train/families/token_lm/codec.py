"""What the family asks of a codec between sound and codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor, nn

    from tts_train.families.token_lm.layout import Levels


def weights_fingerprint(name: str, network: nn.Module) -> str:
    """Return ``name-`` and 16 hex digits that the names and every bit of a network's weights decide."""
    import xxhash

    digest = xxhash.xxh3_64()
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return f"{name}-{digest.hexdigest()}"


class Codec(Protocol):
    """Encodes and decodes sound, which is 1-D float32 at ``sample_rate``, about [-1, 1]."""

    @property
    def sample_rate(self) -> int:
        """Samples a second."""

    @property
    def frame_samples(self) -> int:
        """Samples in a frame; a clip of T samples becomes ceil(T / frame_samples) frames."""

    @property
    def context_frames(self) -> int:
        """Frames on either side that the sound of a frame depends on: what is decoded with it in a window."""

    @property
    def fingerprint(self) -> str:
        """A name that changes whenever the codes could: part of the address of cached codes."""

    def encode(self, clips: Sequence[Tensor]) -> list[Levels]:
        """Return the codes of each clip, the same whatever clips are encoded with it."""

    def decode(self, levels: Sequence[ArrayLike], *, seed: int | None = 0, first_frame: int = 0) -> Tensor:
        """Return frames * frame_samples samples; ``seed=None`` decodes without noise, where a codec has any."""
