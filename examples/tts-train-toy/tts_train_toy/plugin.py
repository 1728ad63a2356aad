"""The toy as a backend: read the table."""

from __future__ import annotations

from tts_train.contract import Backend, Format, Stage, hookimpl

HUM = Stage(
    name="hum",
    summary="Letters to tones.",
    model="tts_train_toy.module:ToyModule",
    data="tts_train_toy.data:ToyData",
    synth="tts_train_toy.jobs:ToySynth",
    formats={"tones": Format(summary="table of spectra as safetensors", job="tts_train_toy.jobs:TonesExport")},
    identity=("model.bins", "data.text"),
    tiny={"data.batch_size": 2},
)


@hookimpl
def tts_train_backend() -> Backend:
    """Describe the backend."""
    return Backend(name="toy", summary="Hums a text, a tone a letter.", stages=(HUM,), start=("hum-small",))
