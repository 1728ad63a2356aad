"""Exports in the clients that people run them with: greedy speech is the same as in the trained network."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from tests.clients import asked, client
from tests.orpheus.family import open_run
from tests.orpheus.learned_runs import TEXTS, learned_rows, write_learned_run
from tests.orpheus.older_client import speak
from tests.orpheus.trained_runs import write_run
from tts_train.families.token_lm.decoding.sampling import Sampling, least_likely, penalise, sample
from tts_train.families.token_lm.export.gguf_file import read_tokens, write_gguf
from tts_train.families.token_lm.export.gguf_kinds import rounded
from tts_train_orpheus.jobs import OrpheusGguf as GgufExport, OrpheusHf as HfExport, OrpheusMerged as MergedExport
from tts_train_orpheus.layout import CUSTOM_BASE, LAYOUT, VOCAB_SIZE
from tts_train_orpheus.model import ORPHEUS
from tts_train_orpheus.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

OLDER = ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.2")
"""The last release of transformers 4, and the two packages of which it needs older ones than ours."""
LLAMA_CPP = ("xllamacpp==2026.10.11549",)
"""llama.cpp in a wheel."""
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A trained run, the same as ``hf``, and adapters over that as ``merged``."""
    place = tmp_path_factory.mktemp("clients")
    # As wide as one block of llama.cpp's types of four bits.
    write_learned_run(place / "run", tiny={"hidden": 256, "mlp": 256})
    HfExport(source=place / "run", out=place / "hf", dtype="fp32").run()
    write_run(place / "lora", init_from=str(place / "hf"), method="lora")
    MergedExport(source=place / "lora", out=place / "merged", dtype="fp32").run()
    return place


def test_transformers_4_and_5_say_the_same(exported):
    older, folders = client(*OLDER), [exported / "hf", exported / "merged"]
    newer = [speak(folder, TEXTS) for folder in folders]
    learned = [row.input_ids[row.prompt : -1].tolist() for row in learned_rows()]
    assert newer[0] == learned
    assert newer[1] != learned
    version, said = asked(older, HERE / "older_client.py", *TEXTS, "--", *map(str, folders))
    assert version.startswith("4.57.")
    assert said == newer


def test_llama_cpp_says_the_same(exported):
    """In every type of matrix; the learnt margins are wide enough for four bits."""
    llama = client(*LLAMA_CPP)
    files = {dtype: written(exported, dtype) for dtype in ("f16", "q8_0")}
    for dtype, types in {"bf16": {"BF16": 15, "F32": 6}, "q4_k": {"Q4_K": 12, "Q6_K": 3, "F32": 6}}.items():
        files[dtype] = exported / f"{dtype}.gguf"
        report = GgufExport(source=exported / "run", out=files[dtype], dtype=dtype).run()
        assert report["measured"]["types"] == types
    rows = learned_rows()
    greedy = {"n_predict": 100, "samplers": ["top_k"], "top_k": 1, "repeat_penalty": 1.0}
    requests = [{"prompt": row.input_ids[: row.prompt].tolist(), **greedy} for row in rows]
    wanted = ["".join(f"<custom_token_{i - CUSTOM_BASE}>" for i in row.input_ids[row.prompt : -1]) for row in rows]
    said = asked(llama, HERE / "llama_client.py", json.dumps(requests), *map(str, files.values()))
    said = [[answer["choices"][0]["text"] for answer in answers] for answers in said]
    assert dict(zip(files, said, strict=True)) == dict.fromkeys(files, wanted)


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K"])
def test_packing_loses_no_more_than_ggml_does(name):
    """By ggml's own functions, which llama.cpp's library gives away."""
    kind = gguf.GGMLQuantizationType[name]
    file = next((client(*LLAMA_CPP) / "xllamacpp").glob("*.so"), None)
    if file is None:
        pytest.skip("NOT TRIED: this system's wheel does not give ggml's functions away")
    library = ctypes.CDLL(str(file))
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        *[ctypes.c_void_p] * 2,
        *[ctypes.c_int64] * 3,
        ctypes.c_void_p,
    ]
    read = library[f"dequantize_row_{name.lower()[:3]}K"]
    read.argtypes = [*[ctypes.c_void_p] * 2, ctypes.c_int64]
    generator = torch.Generator().manual_seed(0)
    normal = 0.02 * torch.randn(64, 1024, generator=generator)
    for weight in (normal, normal / torch.rand(64, 1024, generator=generator).clamp(min=0.05), normal + 0.1):
        ours = rounded(weight, kind)
        theirs = np.zeros_like(ours)
        library.ggml_quantize_chunk(kind, weight.data_ptr(), theirs.ctypes.data, 0, *weight.shape, None)
        errors = []
        for packed in (ours, theirs):
            values = torch.empty_like(weight)
            read(packed.ctypes.data, values.data_ptr(), weight.numel())
            assert np.array_equal(values.numpy(), gguf.quants.dequantize(packed, kind))
            errors.append(float((values - weight).square().mean().sqrt()))
        assert errors[0] < 1.02 * errors[1]


def test_sampling_is_the_same(exported):
    """Chances of the next token with Orpheus's settings, after a prompt in which likely tokens have come before.

    llama.cpp does the same only when it is told the order, to look back as far as the prompt, and to leave out its own
    filters: by itself it cuts by top_p before it applies the temperature.
    """
    lm = open_run(exported / "run").network().lm.eval()
    first, second = learned_rows()
    ids = [*first.input_ids[: first.prompt + 7], *second.input_ids[second.prompt : second.prompt + 6]]
    ids = [int(i) for i in ids]
    ours = our_chances(lm, ids, Sampling())
    reference = {"temperature": 0.6, "top_p": 0.95, "repetition_penalty": 1.1}
    settings = {"do_sample": True, "top_k": 0, "max_new_tokens": 1, "output_scores": True, **reference}
    prompt = torch.tensor([ids])
    settings |= {"return_dict_in_generate": True, "attention_mask": torch.ones_like(prompt)}
    theirs = lm.generate(prompt, **settings).scores[0][0].softmax(-1)
    assert apart(ours, theirs) < 1e-4

    told = {"temperature": 0.6, "top_p": 0.95, "repeat_penalty": 1.1, "n_predict": 1, "prompt": ids}
    told |= {"n_probs": 20_000, "post_sampling_probs": True, "seed": 1}
    same = {"repeat_last_n": 256, "samplers": ["penalties", "temperature", "top_p"]}
    variants = [same, same | {"samplers": ["penalties", "top_p", "temperature"]}, {}]
    requests = json.dumps([told | variant for variant in variants])
    (answers,) = asked(client(*LLAMA_CPP), HERE / "llama_client.py", requests, str(written(exported, "f16")))
    distances = [apart(ours, llama_chances(answer)) for answer in answers]
    assert distances[0] < 0.01
    assert min(distances[1:]) > 0.03


def test_what_is_drawn_follows_the_chances():
    """Temperature first, then top_p, by a sum over sorted chances; chi-square below what one seed in a million has."""
    logits, draws = torch.randn(512, generator=torch.Generator().manual_seed(0)), 10_000
    order = logits.argsort(descending=True)
    chances = (logits[order].double() / 0.6).softmax(-1)
    chances = torch.where(chances.cumsum(-1) - chances < 0.95, chances, 0)
    expected = torch.zeros_like(chances).scatter(0, order, chances / chances.sum() * draws)
    generator = torch.Generator().manual_seed(1)
    drawn = sample(
        logits.expand(draws, -1), Sampling(), lambda ids: torch.empty(ids.shape).exponential_(generator=generator)
    )
    counts, often = torch.bincount(drawn, minlength=512).double(), expected >= 5
    assert not counts[expected == 0].any()
    counts = torch.cat([counts[often], counts[~often].sum()[None]])
    expected = torch.cat([expected[often], expected[~often].sum()[None]])
    assert len(counts) > 100
    freedom = len(counts) - 1
    # Wilson and Hilferty 1931: the cube root is nearly normal, and 4.75 deviations are one in a million.
    limit = freedom * (1 - 2 / (9 * freedom) + 4.75 * (2 / (9 * freedom)) ** 0.5) ** 3
    assert float(((counts - expected) ** 2 / expected).sum()) < limit


def written(exported, dtype):
    """The run as a GGUF file, without the reading back that other tests do."""
    file = exported / f"{dtype}.gguf"
    if not file.exists():
        lm = open_run(exported / "run").network().lm
        tokens = read_tokens(LAYOUT, load_tokenizer("tiny"), rows=VOCAB_SIZE)
        write_gguf(ORPHEUS, file, lm, tokens, dtype=dtype, provenance={})
    return file


@torch.inference_mode()
def our_chances(lm, ids, sampling):
    """The distribution that ``synth`` draws from, put together from the sampler's own parts."""
    logits = lm(torch.tensor([ids])).logits[:, -1].float()
    used = torch.zeros_like(logits, dtype=torch.bool)
    used[0, ids] = True
    chances = (penalise(logits, used, sampling.repetition_penalty) / sampling.temperature).softmax(-1)
    chances = chances.masked_fill(chances < least_likely(chances, sampling.top_p), 0)[0]
    return chances / chances.sum()


def llama_chances(answer):
    chances = torch.zeros(VOCAB_SIZE)
    for token in answer["choices"][0]["logprobs"]["content"][0]["top_probs"]:
        chances[token["id"]] = token["prob"]
    return chances


def apart(one, other):
    """Total variation: the largest difference of the chances of any set of tokens."""
    return float((one - other).abs().sum()) / 2
