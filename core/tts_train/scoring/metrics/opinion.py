"""The opinion of listeners, from 1 to 5, by small networks: DNSMOS P.835 and DistillMOS.

DNSMOS: Reddy, Gopal, Cutler 2022 (arXiv 2110.01763), on speech, background and the whole. The weights lie in the
package ``speechmos`` (MIT); only they are used, in a session that is kept, because the package opens one for every
clip. Figures equal the package's. DistillMOS hears noise as well as broken speech: Stahl, Gamper 2025 (arXiv
2502.05356), package ``distillmos`` (MIT), weights in its wheel.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from tts_train.contract.metric import Figure, Metric, Take, optional, package_folder
from tts_train.sound import Floats

SAMPLE_RATE = 16_000
WINDOW = int(9.01 * SAMPLE_RATE)
"""Samples that the network hears at once; shorter clips are repeated until they fill it."""
_DNSMOS = "dnsmos_models/sig_bak_ovr.onnx"
# Second-order polynomials by which the authors fit the network's outputs to listeners' scores, in the order of the
# outputs: speech, background and the whole (sig_bak_ovr.onnx).
_FITS = {
    "dnsmos_speech": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_background": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos": (-0.06766283, 1.11546468, 0.04602535),
}


class Dnsmos(Metric):
    """Predicted opinion of listeners; made for noisy speech, and so strict with noise and mild with odd rhythm."""

    name = "dnsmos"
    figures = (
        Figure(name="dnsmos", unit="1-5", better="higher", summary="overall quality, DNSMOS P.835"),
        Figure(name="dnsmos_speech", unit="1-5", better="higher", summary="quality of the speech signal"),
        Figure(name="dnsmos_background", unit="1-5", better="higher", summary="absence of background noise"),
    )
    packages = ("speechmos", "onnxruntime")

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the three scores, means over windows that begin a second apart."""
        # The package refuses samples beyond full scale, which resampling can make.
        heard = np.clip(take.sound.at(SAMPLE_RATE), -1.0, 1.0)
        raw = np.mean([_fitted(_session().run(None, {"input_1": window[None]})[0][0]) for window in _windows(heard)], 0)
        return dict(zip(_FITS, map(float, raw), strict=True))


def _windows(samples: Floats) -> list[Floats]:
    # Repeated, and windows counted by whole seconds, as the authors' script does it: of 10.5 s it hears one.
    while len(samples) < WINDOW:
        samples = np.concatenate([samples, samples])
    count = int(len(samples) // SAMPLE_RATE - 9.01) + 1
    starts = [second * SAMPLE_RATE for second in range(count)]
    return [samples[start : start + WINDOW] for start in starts if start + WINDOW <= len(samples)]


def _fitted(outputs: Floats) -> list[float]:
    return [float(np.polyval(fit, value)) for fit, value in zip(_FITS.values(), outputs, strict=True)]


@lru_cache(maxsize=1)
def _session() -> Any:  # noqa: ANN401 - onnxruntime ships no types
    runtime = optional("onnxruntime")
    options = runtime.SessionOptions()
    # Idle threads would wait in a loop and take the processor from whatever else computes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    file = str(package_folder("speechmos") / _DNSMOS)
    return runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


_INSTALL = "pip install --no-deps distillmos xls-r-sqa"
_DISTILL_MOS = "weights/distill_mos_v7.pt"


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
    file = package_folder("distillmos", _INSTALL) / _DISTILL_MOS
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True)["model"])
    return network
