"""Upstream's way of preparing English recordings, stated again plainly: three scripts in turn, one file at a time.

Each stage is a process: it loads its own network, goes over the list file by file, and reads again from the disk what
the stage before wrote. Left out, to the advantage of this side: the Chinese BERT of 326 million weights, which
upstream's first script loads whatever the language; a process of ffmpeg for every file; type checks in inflect.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

FULL, SSL = 32_768.0, 1_145.14
"""Scales of the training audio and of what the speech network takes."""


def text(experiment: Path, folder: Path) -> None:
    """Write the phonemes of every line."""
    import torch  # noqa: F401 - as the script does; so is the next
    from transformers import AutoModelForMaskedLM, AutoTokenizer  # noqa: F401

    from tts_train_gpt_sovits.text import FrontEnd

    front_end = FrontEnd("v2")
    rows = []
    for path, language, sentence in _lines(folder):
        said = front_end.speak(sentence, language)
        rows.append(f"{path.name}\t{' '.join(said.phones)}\t{said.word2ph}\t{said.norm_text}")
    (experiment / "2-name2text.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


def hubert(experiment: Path, folder: Path) -> None:
    """Write training audio and speech features of every file."""
    import numpy as np
    import soundfile
    import soxr
    import torch
    from transformers import HubertModel

    network = HubertModel.from_pretrained(str(folder / "hubert"), local_files_only=True).eval()
    for name in ("5-wav32k", "4-cnhubert"):
        (experiment / name).mkdir()
    for path, _, _ in _lines(folder):
        sound, rate = soundfile.read(path, dtype="float32")
        sound = sound if rate == 32_000 else soxr.resample(sound, rate, 32_000)
        peak = np.abs(sound).max()
        if peak > 2.2:
            continue
        words, fed = (sound / peak * (0.95 * 0.5 * scale) + 0.5 * scale * sound for scale in (FULL, SSL))
        soundfile.write(experiment / "5-wav32k" / path.name, words.astype("int16"), 32_000)
        # Like upstream's script, without no_grad.
        features = network(torch.from_numpy(soxr.resample(fed, 32_000, 16_000))[None]).last_hidden_state
        _save(features.transpose(1, 2).cpu(), experiment / "4-cnhubert" / f"{path.name}.pt")


def semantic(experiment: Path, folder: Path) -> None:
    """Write the semantic tokens of every file, by the whole network of voices of which a thousandth is used."""
    import torch

    from tts_train_gpt_sovits.networks.sovits.build import build_network
    from tts_train_gpt_sovits.released.sovits_names import load_upstream

    network = build_network("v2").eval()
    weights = torch.load(folder / "s2G.pth", weights_only=True)["weight"]
    load_upstream(network, {name: each.float() for name, each in weights.items()}, omitted=("enc_q.", "quantizer."))
    rows = ["item_name\tsemantic_audio"]
    for path, _, _ in _lines(folder):
        features = torch.load(experiment / "4-cnhubert" / f"{path.name}.pt", weights_only=True)
        codes = network.codes(features.detach())[0].tolist()
        rows.append(f"{path.name}\t{' '.join(map(str, codes))}")
    (experiment / "6-name2semantic.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _lines(folder: Path) -> Iterator[tuple[Path, str, str]]:
    for line in (folder / "corpus" / "voice.list").read_text(encoding="utf-8").splitlines():
        name, _, language, sentence = line.split("|")
        yield folder / "corpus" / name, language, sentence


def _save(tensor: object, path: Path) -> None:
    import torch

    beside = path.with_suffix(".pth")
    torch.save(tensor, beside)
    shutil.move(beside, path)
