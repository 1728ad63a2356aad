"""Whether prepared rows and a network belong together."""

from __future__ import annotations

from tts_train.errors import ConfigError
from tts_train_gpt_sovits.features.semantic import quantizer_fingerprint
from tts_train_gpt_sovits.networks.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.preparing.prepared import PHONEMES, largest_phoneme
from tts_train_gpt_sovits.released.sovits_names import to_upstream
from tts_train_gpt_sovits.signal.versions import find_version
from tts_train_gpt_sovits.stages.sovits.data import SovitsData


def check_data(
    data: object, network: SovitsNetwork | FlowSovitsNetwork, version: str, *, features: bool = False
) -> None:
    """Refuse rows that another version or quantizer was meant for.

    Args:
        data: The trainer's data module; one of another kind is not looked at.
        network: What is trained.
        version: Its version.
        features: Whether it needs stored speech features.

    Raises:
        ConfigError: with what to prepare or to choose instead.
    """
    if not isinstance(data, SovitsData) or not data.prepared:
        return
    made_for = data.settings.get("version")
    again = f"Prepare the recordings with --version {version}, or train the version they were prepared for."
    if isinstance(made_for, str) and find_version(made_for).symbols != find_version(version).symbols:
        raise ConfigError(f"{data.path} was prepared for {made_for}, whose phonemes {version} does not have. {again}")
    rows = find_version(version).symbols
    for prepared in data.prepared if made_for is None and rows < PHONEMES else ():
        largest = largest_phoneme(prepared)
        if largest >= rows:
            raise ConfigError(
                f"{prepared.path} has the phoneme {largest}, and {version} has {rows} (0 to {rows - 1}). {again}"
            )
    if find_version(version).speaker and "speaker_vector" not in data.columns:
        raise ConfigError(f"{data.path} has no speaker vectors, which {version} needs. {again}")
    if features and not data.features:
        raise ConfigError("--model.freeze_quantizer false trains on speech features: add --data.features true.")
    tokens, own = data.settings.get("quantizer"), _fingerprint(network)
    if isinstance(tokens, str) and not features and tokens != own:
        raise ConfigError(
            f"The codes in {data.path} are of another quantizer ({tokens[:8]}) than the network's ({own[:8]}), so they "
            "would mean other sounds. Start from the base that prepare used, or prepare with this one."
        )


def _fingerprint(network: SovitsNetwork | FlowSovitsNetwork) -> str:
    return quantizer_fingerprint(to_upstream(network))
