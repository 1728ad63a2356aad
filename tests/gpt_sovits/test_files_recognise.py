"""Files are told apart as upstream tells them, and by their tensors where that misleads."""

from __future__ import annotations

import hashlib

import pytest
import torch

from tests.gpt_sovits.file_samples import GAN, gpt_config, save, seeded, shrunk
from tts_train.errors import ConfigError, DataError, UnsafeFileError
from tts_train_gpt_sovits.released import recognise
from tts_train_gpt_sovits.released.recognise import BASES, version_by_bytes
from tts_train_gpt_sovits.released.shapes import critic_shapes, generator_shapes, gpt_shapes, lora_shapes
from tts_train_gpt_sovits.signal.versions import GptConfig
from tts_train_gpt_sovits.starts.gpt import check_source

KIB, MIB = 1024, 1024 * 1024


def generator(version: str) -> dict[str, torch.Tensor]:
    return {name: tensor.half() for name, tensor in seeded(shrunk(generator_shapes(version))).items()}


@pytest.mark.parametrize(
    ("first", "size", "expected"),
    [
        (b"PK\x03\x04", 82978 * KIB - 1, ("v1", "size")),
        (b"PK\x03\x04", 82978 * KIB, ("v2", "size")),
        (b"PK\x03\x04", 700 * MIB - 1, ("v2", "size")),
        (b"PK\x03\x04", 700 * MIB, ("v3", "size")),
        (b"00", 5, ("v1", "mark")),
        (b"01", 5, ("v2", "mark")),
        (b"02", 5, ("v3", "mark")),
        (b"03", 5, ("v3", "mark")),
        (b"04", 5, ("v4", "mark")),
        (b"05", 5, ("v2Pro", "mark")),
        (b"06", 5, ("v2ProPlus", "mark")),
    ],
)
def test_first_bytes_and_size(first, size, expected):
    assert version_by_bytes(first, size) == expected


@pytest.mark.parametrize(("version", "mark"), [("v2Pro", b"05"), ("v2ProPlus", b"06"), ("v2", b"01"), ("v1", b"00")])
def test_marked_files(tmp_path, version, mark):
    path = save(tmp_path / "a.pth", {"weight": generator(version)}, mark)
    found = recognise(path)
    assert (found.kind, found.version, found.taken_for, found.head) == ("s2G", version, version, b"PK")
    with pytest.raises(ConfigError, match=r"is s2G, and a GPT is wanted here: give a run, a GPT file"):
        check_source(str(path))


def test_a_small_pro_network_is_what_its_mark_says(tmp_path):
    """Of four times 192 channels, as ``--model.tiny.channels 192`` makes, like the released v2ProPlus."""
    weights = generator("v2ProPlus")
    assert recognise(save(tmp_path / "small.pth", {"weight": weights}, b"05")).version == "v2Pro"
    weights["sv_emb.weight"] = torch.zeros(1024, 1, dtype=torch.float16)
    with pytest.raises(DataError, match="is marked v2Pro and holds s2G of v2ProPlus"):
        recognise(save(tmp_path / "released.pth", {"weight": weights}, b"05"))


@pytest.mark.parametrize("mark", [b"07", b"08", b"42", b"v9"])
def test_marks_that_are_not_known_are_named(tmp_path, mark):
    """A third party's tool marks v5dev and v5turbo, whose networks are others."""
    path = save(tmp_path / "a.pth", {"weight": generator("v2Pro")}, mark)
    known = "00 v1, 01 v2, 02 v3, 03 v3 LoRA, 04 v4 LoRA, 05 v2Pro, 06 v2ProPlus"
    with pytest.raises(DataError, match=f"marked '{mark.decode()}', .*Known marks: {known}"):
        recognise(path)


@pytest.mark.parametrize("version", GAN)
def test_unmarked_files_are_told_by_their_tensors(tmp_path, version):
    weights = {name: tensor for name, tensor in generator(version).items() if not name.startswith("enc_q.")}
    found = recognise(save(tmp_path / "a.pth", {"weight": weights, "config": {}, "info": ""}))
    assert (found.kind, found.version, found.complete, found.half) == ("s2G", version, False, True)
    # Upstream goes by size alone, and then by the phoneme table, which tells v1 from v2 only.
    assert found.taken_for == "v1"
    assert found.told_by == ("table" if version in ("v1", "v2") else "tensors")


def test_a_missing_phoneme_table_means_v2(tmp_path):
    weights = generator("v1")
    del weights["enc_p.text_embedding.weight"]
    assert recognise(save(tmp_path / "a.pth", {"weight": weights})).version == "v2"


@pytest.mark.parametrize(("version", "told"), [("v3", "v3"), ("v4", "v4")])
def test_released_bases_are_told_by_hash(tmp_path, monkeypatch, version, told):
    path = save(tmp_path / "s2G.pth", {"weight": generator("v3")})
    digest = hashlib.md5(path.read_bytes()[:8192], usedforsecurity=False).hexdigest()
    monkeypatch.setitem(BASES, digest, version)
    found = recognise(path)
    assert (found.version, found.told_by, found.complete) == (told, "base", True)


def test_the_older_base_is_v1_whatever_its_hash_says(tmp_path, monkeypatch):
    path = save(tmp_path / "s2G488k.pth", {"weight": generator("v1")})
    digest = hashlib.md5(path.read_bytes()[:8192], usedforsecurity=False).hexdigest()
    monkeypatch.setitem(BASES, digest, "v2")
    assert recognise(path).version == "v1"


def test_v3_and_v4_are_told_apart_by_whatever_says_it(tmp_path):
    weights = generator("v4")
    with pytest.raises(DataError, match=r"v3 or v4.*Give the version"):
        recognise(save(tmp_path / "a.pth", {"weight": weights}))
    assert recognise(tmp_path / "a.pth", version="v4").told_by == "caller"
    said = recognise(save(tmp_path / "b.pth", {"weight": weights, "config": {"model": {"version": "v4"}}}))
    assert (said.version, said.told_by) == ("v4", "config")
    inside = recognise(save(tmp_path / "logs_s2_v4_lora_32" / "G_8.pth", {"model": weights}))
    assert (inside.kind, inside.version, inside.told_by) == ("s2G_training", "v4", "folder")


@pytest.mark.parametrize(("version", "mark"), [("v3", b"03"), ("v4", b"04")])
def test_lora(tmp_path, version, mark):
    weights = seeded({name: tuple(min(n, 2) for n in shape) for name, shape in lora_shapes(version, 2).items()})
    found = recognise(save(tmp_path / "a.pth", {"weight": weights, "lora_rank": 2}, mark))
    assert (found.kind, found.version, found.rank, found.complete) == ("lora", version, 2, False)


@pytest.mark.parametrize(("phonemes", "version"), [(512, "v1"), (732, "v2")])
def test_text_to_semantic(tmp_path, phonemes, version):
    config = GptConfig(phonemes=phonemes, width=32, heads=2, layers=1)
    weights = seeded(gpt_shapes(config))
    found = recognise(save(tmp_path / "a.ckpt", {"weight": weights, "config": gpt_config(config), "info": "x"}))
    assert (found.kind, found.version, found.half) == ("s1", version, False)
    assert recognise(save(tmp_path / "b.ckpt", {"state_dict": weights})).kind == "s1_training"


@pytest.mark.parametrize(("version", "told"), [("v1", "v2"), ("v2", "v2"), ("v2Pro", "v2Pro"), ("v2ProPlus", "v2Pro")])
def test_discriminators_are_told_as_far_as_they_differ(tmp_path, version, told):
    weights = seeded(shrunk(critic_shapes(version)))
    found = recognise(save(tmp_path / "s2D.pth", {"weight": weights}))
    assert (found.kind, found.version) == ("s2D", told)
    assert recognise(tmp_path / "s2D.pth", version=version).version == version
    assert recognise(save(tmp_path / "D_5.pth", {"model": weights})).kind == "s2D_training"


def test_a_mark_that_contradicts_the_tensors(tmp_path):
    path = save(tmp_path / "a.pth", {"weight": generator("v2")}, b"05")
    with pytest.raises(DataError, match="marked v2Pro and holds s2G of v2"):
        recognise(path)


@pytest.mark.parametrize("content", [{"a": 1}, {"weight": {}}, {"weight": {"a": torch.ones(1)}}, {"model": 3}])
def test_other_files(tmp_path, content):
    with pytest.raises(DataError, match="no file of GPT-SoVITS"):
        recognise(save(tmp_path / "a.pth", content))


def test_code_behind_a_mark_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    path = save(tmp_path / "a.pth", {"weight": {}, "config": Evil()}, b"05")
    with pytest.raises(UnsafeFileError, match=r"exec'.*GLOBAL at byte"):
        recognise(path)
