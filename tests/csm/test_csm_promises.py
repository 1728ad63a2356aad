"""CSM keeps every promise of a backend, on the sample voice."""

from __future__ import annotations

from tts_train.cli import main
from tts_train.testing import check_backend

TINY = ["--codec", "tiny", "--tokenizer", "tiny"]


def test_conforms(tmp_path, sample_corpus):
    prepared = tmp_path / "prepared"
    assert main(["prepare", str(sample_corpus), "--backend", "csm", "--out", str(prepared), *TINY]) == 0
    check_backend(
        "csm",
        folder=tmp_path,
        settings=["--data.path", str(prepared), "--listen.sentences", "1"],
        synth=["--codec", "tiny", "--max_new_tokens", "320"],
    )
