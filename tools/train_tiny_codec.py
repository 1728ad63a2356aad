"""Train the small codec that stands for ``--codec tiny``: about an hour on two cores.

Needs ``pip install hibari-tts`` (Apache-2.0) for the speech. From the repository root::

    python tools/tiny_codec_data.py speech.npz
    python tools/train_tiny_codec.py speech.npz --minutes 60 --out tiny_codec.safetensors

The pitch that the sample voice's maker used is known, so the pulses of the target are, phase and all, and the filters
are learned by comparing spectra. First nothing is quantised; then k-means starts the codebooks, which follow the
latents as running means (van den Oord et al. 2017, arXiv 1711.00937), unused codes being moved to where latents are;
for the last part encoder and codebooks are fixed.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tiny_codec_data import UNVOICED, Speech
from torch import Tensor
from torch.nn import functional as F

from tts_train_orpheus.codec import tiny_sound as sound
from tts_train_orpheus.codec.tiny_network import Filters, Level, TinyNetwork
from tts_train_orpheus.layout import CODEBOOK_SIZE, FRAME_SAMPLES

CROP = 24_576
PLAIN, FIXED = 0.1, 0.75
"""Shares of the time after which quantising begins and encoder and codebooks are fixed."""
DECAY = 0.99
FIRST_COUNT = 0.05
"""What a code's running count begins at: about where it stays, so that codes follow the latents at once."""
RESTART_EVERY = 40
FITTED, KMEANS_VECTORS = 600, 40_000
"""Clips, and vectors out of them, that k-means looks at."""
DROP_LEVELS = (0.1, 0.1)
"""Shares of the examples that are decoded from the first level alone and from the first two."""


@dataclass
class Batch:
    """Crops: samples, and pitch, voice and phase of every sample; [B, CROP] all."""

    wave: Tensor
    pitch: Tensor
    voice: Tensor
    cycles: Tensor


class RunningMeans:
    """Codebooks that follow the vectors they stand for."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.begin()

    def begin(self) -> None:
        """Forget what was seen."""
        self.count = torch.full((CODEBOOK_SIZE,), FIRST_COUNT)
        self.total = self.level.codebook * FIRST_COUNT

    def follow(self, vectors: Tensor, codes: Tensor, *, restart: bool) -> None:
        """Take a batch into account; ``restart`` moves codes that nothing has chosen lately."""
        flat, chosen = vectors.reshape(-1, vectors.shape[-1]).float(), codes.reshape(-1)
        self.count.mul_(DECAY).index_add_(0, chosen, torch.full(chosen.shape, 1 - DECAY))
        self.total.mul_(DECAY).index_add_(0, chosen, flat * (1 - DECAY))
        if restart:
            usual = float(self.count.mean())
            unused = torch.nonzero(self.count < 0.05 * usual)[:, 0]
            unused = unused[torch.randperm(len(unused))[: len(flat) // 2]]
            picked = flat[torch.randperm(len(flat))[: len(unused)]]
            self.count[unused], self.total[unused] = 0.5 * usual, picked * 0.5 * usual
        self.level.codebook.copy_(self.total / self.count.clamp(min=1e-6)[:, None])


def k_means(vectors: Tensor, rounds: int = 5, start: Tensor | None = None) -> Tensor:
    """Return CODEBOOK_SIZE centres; a centre without vectors is moved to the vector that fits worst."""
    vectors = vectors[torch.randperm(len(vectors))[:KMEANS_VECTORS]]
    centres = vectors[torch.randperm(len(vectors))[:CODEBOOK_SIZE]].clone() if start is None else start.clone()
    if len(centres) < CODEBOOK_SIZE:
        centres = torch.cat((centres, centres[0] + torch.randn(CODEBOOK_SIZE - len(centres), centres.shape[1])))
    for _ in range(rounds):
        found = [(centres.square().sum(-1) - 2 * part @ centres.T).min(-1) for part in vectors.split(16_384)]
        nearest = torch.cat([best.indices for best in found])
        misfit = torch.cat([best.values for best in found]) + vectors.square().sum(-1)
        counts = torch.bincount(nearest, minlength=CODEBOOK_SIZE)
        centres = torch.zeros_like(centres).index_add_(0, nearest, vectors) / counts.clamp(min=1)[:, None]
        empty = torch.nonzero(counts == 0)[:, 0]
        worst = misfit.topk(min(len(empty), len(vectors))).indices
        centres[empty[: len(worst)]] = vectors[worst]
    return centres


def draw(speech: Speech, count: int, chance: np.random.Generator) -> Batch:
    """Return random crops."""
    rows = []
    for index in chance.integers(0, len(speech), count):
        clip = speech.clip(int(index))
        room = max(len(clip.wave), CROP)
        start = int(chance.integers(0, room - CROP + 1))
        fill = (0, room - len(clip.wave))
        loud = 10 ** (chance.uniform(-3, 1) / 20)
        parts = (clip.wave * np.float32(loud), np.maximum(clip.pitch, UNVOICED), clip.pitch > UNVOICED, clip.cycles)
        fills = (0.0, UNVOICED, 0.0, 0.0)
        rows.append(
            [np.pad(p, fill, constant_values=v)[start : start + CROP] for p, v in zip(parts, fills, strict=True)]
        )
    wave, pitch, voice, cycles = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
    return Batch(wave.float(), pitch.float(), voice.float(), cycles % 1.0)


def quantise(
    network: TinyNetwork, latents: Tensor, means: list[RunningMeans] | None, *, restart: bool, plain: bool
) -> tuple[Tensor, Tensor]:
    """Return what the decoder gets, straight through, and how far the encoder is from its codes."""
    batch = latents.shape[0]
    chance = torch.rand(batch)
    used = [torch.ones(batch), (chance > DROP_LEVELS[0]).float(), (chance > sum(DROP_LEVELS)).float()]
    whole, commitment = torch.zeros_like(latents), latents.new_zeros(())
    for index, level in enumerate(network.quantiser.levels):
        assert isinstance(level, Level)
        vectors = level.project(latents - whole).float()
        if not plain:
            codes = level.nearest(vectors)
            chosen = F.embedding(codes, level.codebook)
            if means is not None:
                means[index].follow(vectors.detach(), codes, restart=restart)
            commitment = commitment + (vectors - chosen).square().mean()
            vectors = vectors + (chosen - vectors).detach()
        whole = whole + level.restore(vectors) * used[index][:, None, None]
    return whole, commitment


def spectral_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Compare magnitudes [B, T, BINS]: on a log scale by bins and in mel bands, and plainly, for what is loud."""
    filters = sound.mel_filters(96, sound.N_FFT)
    bins = ((made + sound.FLOOR).log() - (wanted + sound.FLOOR).log()).abs().mean()
    bands = (made.square() @ filters + sound.FLOOR**2).log() - (wanted.square() @ filters + sound.FLOOR**2).log()
    loud = (made - wanted).abs().sum() / wanted.sum().clamp(min=1.0)
    return bins + bands.abs().mean() + 2 * loud


def turn_loss(filtered: Tensor, pulses: Tensor, wanted: Tensor) -> Tensor:
    """Compare the phases of the filtered pulses with those of the target, the louder the heavier; spectra all."""
    alike = (filtered * wanted.conj()).real / (filtered.abs() * wanted.abs()).clamp(min=1e-6)
    weight = pulses.abs().sqrt() * wanted.abs()
    return (weight * (1 - alike)).sum() / weight.sum().clamp(min=1.0)


def steadiness(pitch: Tensor) -> Tensor:
    """Return 1 where the pitch moves by less than a fifth of an octave in two hops, else 0: where voice begins or ends,
    the maker's pitch runs from or to 0."""
    octaves = F.pad(pitch, (1, 1), mode="replicate").log2()
    return ((octaves[:, 2:] - octaves[:, :-2]).abs() < 0.2).float()


def step_loss(
    network: TinyNetwork, batch: Batch, means: list[RunningMeans] | None, *, restart: bool, plain: bool, fixed: bool
) -> dict[str, Tensor]:
    """Return the losses of a batch by name, weighted."""
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.set_grad_enabled(not fixed):
        latents = network.encoder(sound.features(batch.wave)).float()
        latents, commitment = quantise(network, latents, None if fixed else means, restart=restart, plain=plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        filters: Filters = network.decoder(latents)
    train = sound.pulses(batch.cycles, batch.pitch, batch.voice)
    pulses, wanted = (sound.spectra(wave, sound.N_FFT, sound.HOP) for wave in (train, batch.wave))
    filtered = pulses * torch.polar(filters.gain, filters.turn) / (sound.N_FFT / 4)
    # The expected power of pulses and noise together: drawing the noise would only add to the gradient's.
    made = (filtered.abs().square() + filters.noise.square()).sqrt()
    centres = slice(sound.HOP // 2, None, sound.HOP)
    voice = batch.voice[:, centres]
    octaves = (filters.pitch / batch.pitch[:, centres]).log2().abs()
    steady = voice * steadiness(batch.pitch[:, centres])
    return {
        "spectra": spectral_loss(made, wanted.abs()),
        "turn": 0.3 * turn_loss(filtered, pulses, wanted),
        "pitch": 10 * (octaves * steady).sum() / steady.sum().clamp(min=1.0),
        "voice": 0.5 * F.binary_cross_entropy_with_logits(filters.voice, voice),
        "commitment": 0.2 * commitment,
    }


@torch.no_grad()
def refit(network: TinyNetwork, speech: Speech, means: list[RunningMeans], *, fresh: bool) -> None:
    """Place the codes of all levels by k-means over some clips, from scratch or from where they are."""
    waves = [torch.from_numpy(speech.clip(index).wave) for index in range(min(FITTED, len(speech)))]
    whole = [wave[None, : len(wave) // FRAME_SAMPLES * FRAME_SAMPLES] for wave in waves]
    latents = torch.cat([network.encoder(sound.features(wave)) for wave in whole], dim=1)
    for mean in means:
        level = mean.level
        vectors = level.project(latents)
        level.codebook.copy_(k_means(vectors[0], start=None if fresh else level.codebook))
        mean.begin()
        parts = [F.embedding(level.nearest(part), level.codebook) for part in vectors.split(FRAME_SAMPLES, dim=1)]
        latents = latents - level.restore(torch.cat(parts, dim=1))


def scale_features(network: TinyNetwork, speech: Speech) -> None:
    """Set the encoder's mean and spread from a few clips."""
    waves = [torch.from_numpy(speech.clip(index).wave)[None] for index in range(60)]
    seen = torch.cat([sound.features(wave[:, : wave.shape[1] // 2048 * 2048])[0] for wave in waves])
    network.encoder.mean.data = seen.mean(0)
    network.encoder.spread.data = seen.std(0).clamp(min=0.02)


def save(network: TinyNetwork, file: Path) -> None:
    """Write the weights in half precision."""
    state = {name: tensor.detach().half().contiguous() for name, tensor in network.state_dict().items()}
    part = file.with_suffix(".part")
    save_file(state, part)
    part.replace(file)


def train(options: argparse.Namespace) -> None:
    """Train until the time is over, saving now and then."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    chance = np.random.default_rng(options.seed)
    speech, network = Speech(options.speech), TinyNetwork()
    if options.resume:
        network.load_state_dict({k: v.float() for k, v in load_file(options.resume).items()})
    else:
        scale_features(network, speech)
    means = [RunningMeans(level) for level in network.quantiser.levels]  # type: ignore[arg-type]
    trainable = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=options.lr, betas=(0.8, 0.99), weight_decay=0.01, fused=True)
    plain, fixed, begun, saved = not options.resume, False, time.monotonic(), 0.0
    shown: dict[str, float] = {}
    step = 0
    while (share := (time.monotonic() - begun) / (60 * options.minutes)) < 1:
        if plain and share > PLAIN:
            refit(network, speech, means, fresh=True)
            plain = False
            print("codebooks placed", flush=True)
        if not fixed and share > FIXED:
            refit(network, speech, means, fresh=False)
            fixed = True
            print("encoder and codebooks fixed", flush=True)
        optimizer.param_groups[0]["lr"] = (
            options.lr * min(1, (step + 1) / 100) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * share)))
        )
        batch = draw(speech, options.batch, chance)
        restart = step % RESTART_EVERY == 0 and not plain
        losses = step_loss(network, batch, means, restart=restart, plain=plain, fixed=fixed)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 5.0)
        optimizer.step()
        for name, value in losses.items():
            shown[name] = 0.95 * shown.get(name, value.item()) + 0.05 * value.item()
        step += 1
        if step % 50 == 0:
            seconds = time.monotonic() - begun
            used = [int((mean.count > 0.05 * mean.count.mean()).sum()) for mean in means]
            values = " ".join(f"{name} {value:.3f}" for name, value in shown.items())
            print(f"{step} {seconds:.0f} s {values} used {used}", flush=True)
        if time.monotonic() - saved > 120:
            save(network, options.out)
            saved = time.monotonic()
    save(network, options.out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path)
    train(parser.parse_args())
