"""DistillMOS: the opinion of listeners by a small network, from 1 to 5; it hears noise as well as broken speech.

Stahl, Gamper 2025 (arXiv 2502.05356), package ``distillmos`` (MIT), weights in its wheel.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tts_train.contract.metric import Figure, Metric, Take, optional, package_folder

SAMPLE_RATE = 16_000
_INSTALL = "pip install --no-deps distillmos xls-r-sqa"
_WEIGHTS = "weights/distill_mos_v7.pt"


class DistillMos(Metric):
    """Predicted opinion of listeners."""

    name = "distillmos"
    figures = (Figure(name="distillmos", unit="1-5", better="higher", summary="overall quality, DistillMOS"),)
    packages = ("distillmos", "xls_r_sqa")
    # Its declared dependencies serve parts that are not used here, and weigh ten times as much as it does.
    install = _INSTALL

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the score."""
        import torch

        samples = torch.from_numpy(take.sound.at(SAMPLE_RATE).copy())
        with torch.inference_mode():
            return {"distillmos": float(_network()(samples[None])[0, 0])}


@lru_cache(maxsize=1)
def _network() -> Any:  # noqa: ANN401 - the package ships no types
    import torch

    # Left to itself the class reads its weights and prints a line to stdout, where --json has its place.
    network = optional("distillmos", _INSTALL).ConvTransformerSQAModel(load_weights=False).eval()
    file = package_folder("distillmos", _INSTALL) / _WEIGHTS
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True)["model"])
    return network
