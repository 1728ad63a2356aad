"""Step 11: how fast speech is generated, the same every time, and heard inside a run; the codecs."""

from __future__ import annotations

from typing import Any

import torch

from gpu_blocks.fits import clean, command, fit, release
from gpu_blocks.job import ROOT, Job, words_of
from gpu_blocks.timing import on_device, once
from gpu_blocks.watch import GIB
from gpu_blocks.weights import llama, orpheus_on

REAL_TIME, WANTED, WANTED_BATCH = 82, 250, 3000
"""Tokens a second: what keeps up with speech; the goals alone and for 16 utterances together."""
SNAC = {
    **{"sampling_rate": 24000, "encoder_dim": 48, "encoder_rates": [2, 4, 8, 8], "decoder_dim": 1024},
    **{"decoder_rates": [8, 8, 4, 2], "attn_window_size": None, "codebook_size": 4096, "codebook_dim": 8},
    **{"vq_strides": [4, 2, 1], "noise": True, "depthwise": True},
}
"""The released codec of 24 kHz."""


def run(job: Job) -> None:
    """Generate, listen, and code."""
    parts = {"generation": _generation, "listening": _listening, "GPT codes": _gpt, "SNAC": _snac}
    for name, part in parts.items():
        with job.record.part(name):
            part(job)
        clean(job)


def _generation(job: Job) -> None:
    from tts_train.families.token_lm.decoding.generate import Sampling, generate
    from tts_train.families.token_lm.network.start import TinyOptions
    from tts_train_orpheus.layout import LAYOUT
    from tts_train_orpheus.model import tiny_config
    from tts_train_orpheus.prompt import inference_prompt

    def made(sizes: dict[str, int], kind: torch.dtype) -> Any:
        network = llama(tiny_config(TinyOptions(**sizes)), dtype=kind, device=job.device)
        network.model.rotary_emb.to(job.device)
        network.set_attn_implementation("sdpa")
        return network.requires_grad_(False).eval()

    lm = made(job.sizes, torch.bfloat16 if job.cuda else torch.float32)
    count = 14 if job.tiny else 301
    chance = torch.Generator().manual_seed(0)
    texts = [[128000, *torch.randint(0, 128_000, (12 + 3 * i,), generator=chance).tolist()] for i in range(16)]
    prompts = [inference_prompt(text) for text in texts]

    def speak(number: int, constrain: Any, network: Any = lm) -> Any:
        return generate(
            LAYOUT,
            network,
            prompts[:number],
            seeds=list(range(number)),
            max_new_tokens=count,
            sampling=Sampling(constrain=constrain),
        )

    ids: dict[str, Any] = {}
    for constrain in ("slots", "audio", "none"):
        for turn in ("first", "again"):
            (said,) = speak(1, constrain)
            job.record.figure(f"alone, {constrain}, {turn}", said.tokens_per_second, "tokens/s")
            ids[turn] = said.ids
        job.record.criterion(f"alone, {constrain}: the same ids again", ids["first"] == ids["again"], goal="equal")
        if job.needs_card(f"alone, {constrain}: speed"):
            speed = said.tokens_per_second
            job.record.criterion(
                f"alone, {constrain}: keeps up", speed >= REAL_TIME, speed, goal=f"{REAL_TIME} tokens/s"
            )
            job.record.figure(f"alone, {constrain}: of the goal of {WANTED}", 100 * speed / WANTED, "%")
    for number in (2,) if job.tiny else (8, 16):
        speak(number, "slots")
        outputs: list[Any] = []
        took = once(lambda number=number, to=outputs: to.extend(speak(number, "slots")), cuda=job.cuda) / 1000
        total = sum(len(each.ids) for each in outputs) / took
        job.record.figure(f"{number} together, slots", total, "tokens/s in all")
        if number == 16:
            job.record.figure(f"{number} together: of the goal of {WANTED_BATCH}", 100 * total / WANTED_BATCH, "%")
        # In bfloat16 a product of one row rounds otherwise than one of many, and one near tie changes all that follows.
        job.record.figure(f"{number} together: ids as alone", 100 * _share(speak(1, "slots"), outputs), "%")
    if job.cuda:
        job.record.figure("memory at the peak", torch.cuda.max_memory_allocated() / GIB, "GiB")
    small = made({}, torch.float32)
    share = _share(speak(1, "slots", small), speak(8, "slots", small))
    job.record.criterion("8 together in float32: ids as alone", share == 1.0, 100 * share, goal="100 %", unit="%")


def _share(alone: Any, together: Any) -> float:
    """Return how much of the first utterance is the same."""
    pairs = list(zip(alone[0].ids, together[0].ids, strict=False))
    return sum(a == b for a, b in pairs) / max(1, len(alone[0].ids))


def _listening(job: Job) -> None:
    """Train LoRA on the sample voice and hear two sentences on the way."""
    from tts_train.demo.journey import VOICE

    prepared = job.folder("listening") / "prepared"
    words = ["prepare", "--backend", "orpheus", "--corpus", str(VOICE), "--out", str(prepared)]
    command([*words, "--codec", "tiny", "--tokenizer", "tiny"])
    # Trained against slots, so that what is generated has sound in it.
    words = [
        "-c",
        str(ROOT / "configs" / "orpheus" / "lm-lora.yaml"),
        *words_of(job.small),
        "--data.path",
        str(prepared),
    ]
    words += ["--data.max_tokens", "512", "--data.val_share", "0.1", "--model.head.softmax", "slot"]
    words += ["--listen.sentences", '["Hi."]' if job.tiny else '["Good morning.", "How are you?"]']
    words += ["--listen.max_share", "1", "--listen.metrics", "[clipping,silence]", "--listen.every_n_steps", "2"]
    seen: dict[str, float] = {}

    def after(_number: int, trainer: Any, _module: Any) -> None:
        seen.update({name: float(value) for name, value in trainer.callback_metrics.items() if "listen/" in name})

    with orpheus_on(job.device):
        measured = fit(job, words, name="heard", last=3 if job.tiny else 5, after=after, warm=1)
    waves = list((job.work / job.block / "heard" / "samples").rglob("*.wav"))
    job.record.criterion("heard inside a LoRA run", bool(waves), len(waves), goal="sounds are written")
    job.record.figure("what listening logged", seen)
    release(job, measured)


def _gpt(job: Job) -> None:
    from tts_train_gpt_sovits.networks.gpt.generate import SamplingOptions, generate
    from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
    from tts_train_gpt_sovits.signal.versions import GptConfig

    sizes = {"width": 32, "heads": 2, "layers": 2} if job.tiny else {"width": 512, "heads": 16, "layers": 24}
    torch.manual_seed(0)
    with torch.device(job.device):
        network = GptNetwork(GptConfig(732, **sizes)).eval()
    phonemes = torch.arange(40, device=job.device)
    prompt = torch.arange(75, device=job.device)
    options = SamplingOptions(max_codes=14 if job.tiny else 250)
    codes: list[Any] = []
    for turn in ("first", "again"):
        outcome: list[Any] = []

        def speak(to: list[Any] = outcome) -> None:
            made = torch.Generator(job.device).manual_seed(0)
            to.append(generate(network, phonemes, prompt, options=options, generator=made))

        seconds = once(speak, cuda=job.cuda) / 1000
        codes.append(outcome[-1].codes)
        job.record.figure(f"GPT, {turn}", len(codes[-1]) / seconds, "codes/s (25 keep up)")
    job.record.criterion("GPT: the same codes again", torch.equal(*codes), goal="equal")


def _snac(job: Job) -> None:
    from tts_train_orpheus.codec.snac import SnacCodec
    from tts_train_orpheus.codec.snac_files import build_snac, tiny_config

    config = tiny_config() if job.tiny else SNAC
    seconds, count = (1, 1) if job.tiny else (10, 8)
    chance = torch.Generator().manual_seed(0)
    clips = [torch.randn(24000 * seconds, generator=chance) * 0.1 for _ in range(count)]
    codec = SnacCodec(build_snac(config, None, "seeded").to(job.device))
    codes: list[Any] = []
    took = on_device(lambda: codes.append(codec.encode(clips)), cuda=job.cuda, times=2, warm=1)
    job.record.figure("SNAC encodes", seconds * count / took * 1000, "times real time")
    took = on_device(lambda: codec.decode(codes[-1][0]), cuda=job.cuda, times=2, warm=1)
    job.record.figure("SNAC decodes", seconds / took * 1000, "times real time")
    if job.needs_card("SNAC: codes as on a CPU"):
        other = SnacCodec(build_snac(config, None, "seeded")).encode(clips[:1])[0]
        pairs = [(a == b).mean() for a, b in zip(codes[-1][0], other, strict=True)]
        job.record.criterion(
            "SNAC: codes as on a CPU", min(pairs) > 0.99, 100 * float(min(pairs)), goal="99 %", unit="%"
        )
