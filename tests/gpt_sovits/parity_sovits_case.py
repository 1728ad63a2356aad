"""One version at one precision of the reference figures: a forward, gradients, two training steps, decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.figures import Figure, unknown
from tests.gpt_sovits.filling import inputs, integers, wave
from tests.gpt_sovits.sovits_figures import compare_probe, filled, gradients, named, parameter_sums
from tts_train_gpt_sovits.networks.sovits.adversarial import (
    MEL_WEIGHT,
    Critics,
    adversarial_loss,
    critic_loss,
    feature_loss,
    kl_loss,
    mean_square,
    mel_loss,
)
from tts_train_gpt_sovits.networks.sovits.generator import slice_frames
from tts_train_gpt_sovits.networks.sovits.network import GeneratedSlice, SovitsNetwork
from tts_train_gpt_sovits.released.sovits_names import upstream_names
from tts_train_gpt_sovits.signal.mel import log_mel, spectrogram, wave_log_mel
from tts_train_gpt_sovits.signal.versions import find_version
from tts_train_gpt_sovits.stages.sovits.optimizer import parameter_groups

HOP = 640
_LOSSES = ("loss_disc", "loss_gen", "loss_fm", "loss_mel_x45", "loss_kl", "kl_ssl", "loss_gen_all")


class Batch(NamedTuple):
    """A padded batch."""

    features: Tensor
    spectrogram: Tensor
    lengths: Tensor
    wave: Tensor
    text: Tensor
    text_lengths: Tensor
    speaker: Tensor


class CaseRun:
    """One version at one precision."""

    def __init__(
        self, salt: str, version: str, kwargs: dict[str, Any], frames: Sequence[int], texts: Sequence[int], kind: str
    ) -> None:
        self.salt, self.version, self.frames, self.texts = salt, version, frames, texts
        self.dtype = getattr(torch, kind)
        self.kwargs = kwargs
        self.exact = kind == "float64"
        self.symbols = find_version(version).symbols

    def check(self, expected: dict[str, Any]) -> Iterator[Figure]:
        noise = expected["noise_fill"]
        yield from self._single(noise)
        if "decode" in expected:
            yield from named(self._decode(expected["decode"]), "decode.")
        if "train_2_steps" in expected:
            yield from named(self._train(expected["train_2_steps"], noise), "train_2_steps.")
        for field in expected:
            if field not in ("noise_fill", "decode", "train_2_steps"):
                yield unknown(field, expected[field])

    @cached_property
    def networks(self) -> tuple[SovitsNetwork, Critics]:
        version, given = find_version(self.version), self.kwargs
        network = SovitsNetwork(
            symbols=version.symbols,
            style_bins=version.style_bins,
            style=given["gin_channels"],
            speaker=version.speaker,
            wave_channels=given["upsample_initial_channel"],
            upsample_kernels=given["upsample_kernel_sizes"],
            rates=given["upsample_rates"],
            dropout=given["p_dropout"],
            latent=given["inter_channels"],
            channels=given["hidden_channels"],
            hidden=given["filter_channels"],
            heads=given["n_heads"],
            layers=given["n_layers"],
            kernel=given["kernel_size"],
            block_kernels=given["resblock_kernel_sizes"],
            dilations=given["resblock_dilation_sizes"],
            freeze_quantizer=given["freeze_quantizer"],
        )
        critics = Critics(version.periods)
        filled(network, salt=self.salt, kind=self.dtype)
        filled(critics, salt=self.salt, kind=self.dtype, prefix="D.")
        return network, critics

    def batch(self, tag: str = "") -> Batch:
        order = sorted(range(len(self.frames)), key=lambda i: -self.frames[i])
        frames = [self.frames[i] for i in order]
        texts = [self.texts[i] for i in order]
        padded, longest = 2 * (max(frames) // 2 + 1), max(texts)
        count = len(order)
        batch = Batch(
            torch.zeros(count, 768, padded, dtype=self.dtype),
            torch.zeros(count, 1025, padded, dtype=self.dtype),
            torch.tensor(frames),
            torch.zeros(count, 1, max(frames) * HOP, dtype=self.dtype),
            torch.zeros(count, longest, dtype=torch.long),
            torch.tensor(texts),
            torch.zeros(count, 20480, dtype=self.dtype),
        )
        for row, i in enumerate(order):
            samples = self._wave(self.frames[i], f"{tag}i{i}:")
            size = self.frames[i]
            batch.wave[row, 0, : size * HOP] = samples
            batch.spectrogram[row, :, :size] = spectrogram(samples[None])[0]
            batch.features[row, :, :size] = self._input(f"ssl{tag}.{i}", (768, size))
            batch.text[row, : self.texts[i]] = integers(
                f"text{tag}.{i}", (self.texts[i],), self.symbols, salt=self.salt
            )
            batch.speaker[row] = self._input(f"sv{tag}.{i}", (20480,))
        return batch

    def forward(self, network: SovitsNetwork, batch: Batch, expected: dict[str, Any]) -> GeneratedSlice:
        shape = (len(batch.lengths), self.kwargs["inter_channels"], batch.spectrogram.shape[-1])
        return network(
            batch.features,
            batch.spectrogram,
            batch.lengths,
            batch.text,
            batch.text_lengths,
            frames=expected["segment_size"] // HOP,
            speaker=batch.speaker if network.speaker_style is not None else None,
            noise=self._input("noise", shape),
            starts=torch.tensor(expected["slice_ids"]),
        )

    def losses(self, critics: Critics, batch: Batch, made: GeneratedSlice, *, critic: bool) -> dict[str, Tensor]:
        frames = made.audio.shape[-1] // HOP
        real = slice_frames(batch.wave, made.starts * HOP, frames * HOP)
        if critic:
            judged = critics.compare(real, made.audio.detach())
            return {"loss_disc": critic_loss(*judged)}
        of_real, of_made = critics.compare(real, made.audio)
        target = slice_frames(log_mel(batch.spectrogram), made.starts, frames)
        losses = {
            "loss_gen": adversarial_loss(of_made),
            "loss_fm": feature_loss(of_real, of_made),
            "loss_mel_x45": MEL_WEIGHT * mel_loss(target, wave_log_mel(made.audio[:, 0])),
            "loss_kl": kl_loss(made.prior_latents, made.log_q, made.mean_p, made.log_p, made.mask),
            "kl_ssl": made.quantized.commitment,
        }
        losses["loss_gen_all"] = torch.stack(list(losses.values())).sum()
        return losses

    def _single(self, expected: dict[str, Any]) -> Iterator[Figure]:
        network, critics = self.networks
        batch = self.batch()
        made = self.forward(network, batch, expected)
        losses = self.losses(critics, batch, made, critic=True)
        losses["loss_disc"].backward()
        got: dict[str, Any] = {"grad_l2_D": gradients(critics)}
        losses |= self.losses(critics, batch, made, critic=False)
        losses["loss_gen_all"].backward()
        got["grad_l2_G"] = gradients(network)
        got |= {name: float(loss.detach()) for name, loss in losses.items()}
        with torch.no_grad():
            got |= self._observed(network, critics, batch, made)
        steep = 1e-4 if self.exact else 1e-3
        relative = dict.fromkeys((*_LOSSES, "disc_real_per_d", "disc_fake_per_d"), steep / 10)
        relative |= {"grad_l2_D": steep, "grad_l2_G": steep, "codes_min_gap_sqdist": 1e-3}
        for field, value in expected.items():
            if field in got:
                yield Figure(field, value, got[field], relative=relative.get(field, 0.0))
            elif field == "probes":
                tensors = _probes(batch, made)
                for name, probe in value.items():
                    yield from compare_probe(f"probes.{name}", probe, tensors[name])
            elif field not in ("noise", "slice_ids", "segment_size"):
                yield unknown(field, value)

    def _observed(self, network: SovitsNetwork, critics: Critics, batch: Batch, made: GeneratedSlice) -> dict[str, Any]:
        names = upstream_names(network)
        samples = made.audio.shape[-1]
        judged = critics.compare(slice_frames(batch.wave, made.starts * HOP, samples), made.audio)
        of_real, of_made = (
            [float(mean_square(each.scores, wanted)) for each in judgements]
            for judgements, wanted in zip(judged, (1.0, 0.0), strict=True)
        )
        shown = {
            "y_hat": made.audio,
            "z": made.latents,
            "ssl_padded": batch.features,
            "spec_padded": batch.spectrogram,
            "text_padded": batch.text,
            "wav_padded": batch.wave,
        }
        return {
            "params_without_grad_G": [names[n] for n, p in network.named_parameters() if p.grad is None],
            "disc_real_per_d": of_real,
            "disc_fake_per_d": of_made,
            "codes": made.quantized.codes.tolist(),
            "codes_min_gap_sqdist": _gap(network, batch.features),
            "shapes": {name: list(tensor.shape) for name, tensor in shown.items()},
        }

    def _decode(self, expected: dict[str, Any]) -> Iterator[Figure]:
        network, _ = self.networks
        codes = integers("dec.codes", (1, len(expected["codes"])), 1024, salt=self.salt)
        text = integers("dec.text", (1, len(expected["text"])), self.symbols, salt=self.salt)
        yield Figure("codes", expected["codes"], codes[0].tolist())
        yield Figure("text", expected["text"], text[0].tolist())
        reference = spectrogram(self._wave(expected["refer_frames"], "ref:")[None])
        speakers = [self._input("dec.sv", (1, 20480))] if network.speaker_style is not None else []
        for field, value in expected.items():
            if field.endswith("_shape"):
                continue
            if not field.startswith("audio"):
                if field not in ("codes", "text", "refer_frames", "noise"):
                    yield unknown(field, value)
                continue
            speed = float(field.removeprefix("audio_speed") or 1.0) if field != "audio" else 1.0
            audio = network.decode(
                codes, text, [reference], speakers=speakers, speed=speed, noise=torch.zeros((), dtype=self.dtype)
            )
            yield Figure(f"{field}_shape", expected[f"{field}_shape"], list(audio.shape))
            yield from compare_probe(field, value, audio)

    def _train(self, expected: dict[str, Any], single: dict[str, Any]) -> Iterator[Figure]:
        network, critics = self.networks
        network.zero_grad()
        settings: dict[str, Any] = {"betas": (0.8, 0.99), "eps": 1e-9}
        rate = 1e-4 * 0.999875
        optimizer = torch.optim.AdamW(parameter_groups(network, lr=rate, text_lr_factor=0.4), **settings)
        critic_optimizer = torch.optim.AdamW(critics.parameters(), lr=rate, **settings)
        for step, log in enumerate(expected["log"]):
            batch = self.batch(f".s{step}")
            made = self.forward(network, batch, single)
            losses = self.losses(critics, batch, made, critic=True)
            critic_optimizer.zero_grad()
            losses["loss_disc"].backward()
            critic_optimizer.step()
            losses |= self.losses(critics, batch, made, critic=False)
            optimizer.zero_grad()
            losses["loss_gen_all"].backward()
            optimizer.step()
            got: dict[str, Any] = {name: float(loss.detach()) for name, loss in losses.items()}
            got["lr_groups"] = [group["lr"] for group in optimizer.param_groups]
            for field, value in log.items():
                yield Figure(f"log.{step}.{field}", value, got.get(field), relative=1e-5)
        for field, trained in (("final_param_sums_G", network), ("final_param_sums_D", critics)):
            yield Figure(field, expected[field], parameter_sums(trained), relative=1e-6)

    def _wave(self, frames: int, tag: str) -> Tensor:
        return torch.from_numpy(wave(frames * HOP, 32000, self.salt + tag)).float().to(self.dtype)

    def _input(self, name: str, shape: Sequence[int]) -> Tensor:
        return inputs(name, shape, salt=self.salt, dtype=self.dtype)


def _gap(network: SovitsNetwork, features: Tensor) -> float:
    """Return the least difference between squared distances of the nearest entry and the next."""
    with torch.no_grad():
        rows = network.feature_projection(features).transpose(1, 2).flatten(0, 1)
        squared = torch.cdist(rows.double(), network.quantizer.embedding.double()).square()
    nearest = squared.topk(2, largest=False).values
    return float((nearest[:, 1] - nearest[:, 0]).min())


def _probes(batch: Batch, made: GeneratedSlice) -> dict[str, Tensor]:
    return {
        "y_hat": made.audio,
        "z": made.latents,
        "z_p": made.prior_latents,
        "m_p": made.mean_p,
        "logs_p": made.log_p,
        "m_q": made.mean_q,
        "logs_q": made.log_q,
        "quantized": made.quantized.values.repeat_interleave(2, dim=2),
        "y_mel": slice_frames(log_mel(batch.spectrogram), made.starts, made.audio.shape[-1] // HOP),
        "y_hat_mel": wave_log_mel(made.audio[:, 0]),
        "spec": batch.spectrogram,
    }
