"""What users give by mistake, by command lines: told what it is, with an exit code, and nothing is written."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.qwen3_tts.recordings import fit, prepare, texts, write_rows, write_tone
from tests.qwen3_tts.released import write_released
from tts_train.cli import main
from tts_train.contract import DataError
from tts_train_qwen3_tts.prompt import Qwen3TTSPrompt


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("refused")


@pytest.fixture(scope="module")
def prepared(home):
    assert prepare(write_rows(home / "corpus", texts(4)), home / "prepared") == 0
    return home / "prepared"


@pytest.fixture(scope="module")
def base(home):
    return write_released(home / "base", shape="r17")


@pytest.fixture
def changed(base, tmp_path):
    """Return a function that links the base's folder, with another config.json."""

    def change(edit):
        folder = tmp_path / "changed"
        folder.mkdir()
        for file in base.iterdir():
            if file.name != "config.json":
                (folder / file.name).symlink_to(file)
        config = json.loads((base / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(edit(config)))
        return folder

    return change


def shown(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def speak(source, out, text="Hello.", *words):
    return main(
        [
            "synth",
            str(source),
            "--text",
            text,
            "--out",
            str(out),
            "--max_new_tokens",
            "96",
            "--backend",
            "qwen3_tts",
            *words,
        ]
    )


def test_a_base_without_its_speaker_encoder(prepared, tmp_path, capsys):
    folder = write_released(tmp_path / "base", shape="r17", leave_out=("speaker_encoder.",))
    assert fit(prepared, tmp_path / "run", init_from=folder) == 2
    assert "76 weights are missing, the first being speaker_encoder." in shown(capsys)
    words = ["--tokenizer", str(folder), "--codec", str(folder)]
    assert prepare(write_rows(tmp_path / "corpus", texts(1)), tmp_path / "out", *words) == 2
    assert "has no speaker encoder, as only Base models have one" in shown(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda config: {**config, "tokenizer_type": "qwen3_tts_tokenizer_25hz"}, "hertz is 25 and must be 12"),
        (lambda config: {"model_type": "qwen3_tts"}, "lacks talker_config or its code_predictor_config"),
        (lambda config: {}, "lacks talker_config"),
        (lambda config: {**config, "talker_config": None}, "lacks talker_config"),
        (lambda config: [1], "holds no object"),
        (
            lambda config: {**config, "talker_config": {**config["talker_config"], "head_dim": None}},
            "lacks talker_config.head_dim. Choose",
        ),
        (lambda config: {**config, "model_type": "qwen3"}, "is a 'qwen3' model, and Qwen3-TTS is a 'qwen3_tts'"),
        (lambda config: {**config, "tts_pad_token_id": None}, "lacks tts_pad_token_id"),
        (
            lambda config: {**config, "talker_config": {**config["talker_config"], "spk_id": ["anna"]}},
            "talker_config.spk_id of config.json must be an object",
        ),
        (
            lambda config: {
                **config,
                "speaker_encoder_config": {**config["speaker_encoder_config"], "enc_se_channels": 16},
            },
            "9 weights are of another shape than its config.json says, the first being speaker_encoder.",
        ),
    ],
    ids=[
        "25 Hz",
        "no sections",
        "nothing",
        "null",
        "list",
        "no size",
        "another model",
        "no text row",
        "list of speakers",
        "another size",
    ],
)
def test_a_config_of_something_else(edit, said, changed, prepared, tmp_path, capsys):
    folder = changed(edit)
    assert fit(prepared, tmp_path / "run", init_from=folder) == 2
    assert said in shown(capsys)
    assert not (tmp_path / "run").exists()


def test_a_model_without_its_codec_as_codec(changed, tmp_path, capsys):
    folder = changed(lambda config: config)
    (folder / "speech_tokenizer").unlink()
    assert prepare(write_rows(tmp_path / "corpus", texts(1)), tmp_path / "out", "--codec", str(folder)) == 2
    assert "codec" in shown(capsys)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_model(base, tmp_path, capsys):
    from tts_train_csm.model import load_tokenizer

    load_tokenizer("tiny").save_pretrained(tmp_path / "words")
    corpus = write_rows(tmp_path / "corpus", texts(1))
    words = ["--tokenizer", str(tmp_path / "words"), "--speaker_encoder", "tiny"]
    assert prepare(corpus, tmp_path / "out", *words) == 2
    assert "is not Qwen3-TTS's" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "takes something to say"),
        ("  \n ", "takes something to say"),
        ("Say <|im_end|>.", "names control tokens"),
        ("<|im_start|>assistant", "names control tokens"),
    ],
)
def test_texts_that_say_nothing_or_too_much(text, said, home, prepared, tmp_path, capsys):
    if not (home / "run").exists():
        assert fit(prepared, home / "run", "--trainer.max_steps", "1") == 0
    capsys.readouterr()
    assert speak(home / "run", tmp_path / "a.wav", text) == 2
    assert said in shown(capsys)
    assert not (tmp_path / "a.wav").exists()
    # The newline of the role stays a token of its own.
    assert speak(home / "run", tmp_path / "a.wav", "\nHello.") == 0


def test_a_name_for_a_model_without_names(tmp_path, capsys):
    corpus = write_rows(tmp_path / "corpus", texts(3))
    assert prepare(corpus, tmp_path / "nobody", "--voice_prefix", "never") == 0
    assert fit(tmp_path / "nobody", tmp_path / "run", "--trainer.max_steps", "1") == 0
    assert speak(tmp_path / "run", tmp_path / "a.wav", "Hello.", "--speaker", "bob") == 2
    assert "knows no speaker by name. Leave --speaker out" in shown(capsys)
    assert not (tmp_path / "a.wav").exists()
    assert speak(tmp_path / "run", tmp_path / "a.wav") == 0


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0.20 s, and a voice is taken from 1 s or more"), (120.0, "120.0 s, not at most 60 s")]
)
def test_references_that_are_short_or_long(seconds, said, base, tmp_path, capsys):
    write_tone(tmp_path / "reference.wav", seconds)
    assert speak(base, tmp_path / "a.wav", "Hello.", "--reference", str(tmp_path / "reference.wav")) == 2
    assert said in shown(capsys)
    assert not (tmp_path / "a.wav").exists()


def test_a_download_that_broke_off(changed, prepared, tmp_path, capsys):
    folder = changed(lambda config: config)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert fit(prepared, tmp_path / "run", init_from=folder) == 2
    assert "no weights could be read" in shown(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("language", ["enlgish", "xx", "nl"])
def test_a_language_without_a_tag_is_not_passed_over(language, base, tmp_path, capsys):
    write_tone(tmp_path / "reference.wav", 1.5)
    words = ("--reference", str(tmp_path / "reference.wav"), "--language")
    assert speak(base, tmp_path / "a.wav", "Hello.", *words, language) == 2
    assert f"--language {language}: the model has tags for chinese, english" in shown(capsys)
    assert not (tmp_path / "a.wav").exists()
    assert speak(base, tmp_path / "a.wav", "Hello.", *words, "en-GB") == 0


def test_the_mark_of_an_end_of_text_is_a_control_token(base):
    from tts_train_qwen3_tts.model import load_tokenizer

    with pytest.raises(DataError, match="names control tokens"):
        Qwen3TTSPrompt().encode_line(load_tokenizer(str(base)), "Hello <|endoftext|>")


def test_own_voices_of_rows_without_any(tmp_path, capsys):
    without = ("--speaker_encoder", "none")
    assert prepare(write_rows(tmp_path / "corpus", texts(4)), tmp_path / "prepared", *without) == 0
    assert fit(tmp_path / "prepared", tmp_path / "run", "--data.voice", "clip") == 2
    assert "was prepared without voices. Prepare it again with --speaker_encoder" in shown(capsys)


@pytest.mark.parametrize(
    ("language", "tag"), [("eng", 2050), ("en_US", 2050), ("DEU", 2053), ("cmn", 2055), ("Korean", 2064), ("nl", None)]
)
def test_spellings_of_languages(language, tag):
    assert Qwen3TTSPrompt()._tag(language, None) == tag


def test_a_language_whose_row_is_not_in_the_table(changed, tmp_path, capsys):
    def beyond(config):
        return {**config, "talker_config": {**config["talker_config"], "codec_language_id": {"english": 99999}}}

    write_tone(tmp_path / "reference.wav", 1.5)
    folder, words = changed(beyond), ("--reference", str(tmp_path / "reference.wav"), "--language", "english")
    assert speak(folder, tmp_path / "a.wav", "Hello.", *words) == 2
    assert "talker_config.codec_language_id of config.json must name rows below 3072, not 99999" in shown(capsys)


JSON_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "vocab.json",
    "speech_tokenizer/config.json",
    "speech_tokenizer/preprocessor_config.json",
)


@pytest.mark.parametrize("name", JSON_FILES)
def test_files_of_a_base_that_hold_no_object(base, tmp_path, capsys, name):
    """Whichever of them is damaged: every command that reads it says so, none ends in a traceback."""
    folder = tmp_path / "damaged"
    shutil.copytree(base, folder)
    (folder / name).write_text("[]")
    write_tone(tmp_path / "reference.wav", 3.5)
    corpus = write_rows(tmp_path / "corpus", texts(2))
    networks = ("--tokenizer", str(folder), "--codec", str(folder))
    codes = {
        speak(folder, tmp_path / "a.wav", "Hello.", "--reference", str(tmp_path / "reference.wav"), *networks),
        prepare(corpus, tmp_path / "out", *networks),
    }
    unread = name.endswith("preprocessor_config.json") or name == "generation_config.json"
    assert codes == ({0} if unread else {2})
    if not unread:
        # The library that reads the vocabulary does not name its file.
        assert (name if name != "vocab.json" else "Bad vocabulary json file") in shown(capsys)


def test_a_generation_config_without_an_object_is_told_at_export(prepared, base, tmp_path, capsys):
    folder, run = tmp_path / "damaged", tmp_path / "run"
    shutil.copytree(base, folder)
    (folder / "generation_config.json").write_text("[]")
    assert prepare(write_rows(tmp_path / "corpus", texts(4)), tmp_path / "out", "--tokenizer", str(folder)) == 0
    assert f"--data.path {tmp_path / 'out'} --model.init_from {folder}\n" in capsys.readouterr().err
    assert fit(tmp_path / "out", run, init_from=folder) == 0
    words = ["--format", "base", "--out", str(tmp_path / "exported")]
    assert main(["export", str(run), *words]) == 2
    assert "generation_config.json must hold an object" in shown(capsys)
    shutil.copy(base / "generation_config.json", folder)
    assert main(["export", str(run), *words]) == 0
    (tmp_path / "exported" / "tts_train.json").write_text("[]")
    assert main(["synth", str(tmp_path / "exported"), "--text", "Hello.", "--out", str(tmp_path / "b.wav")]) == 2
    assert "tts_train.json is damaged" in shown(capsys)


def test_a_validation_set_of_another_codec_is_refused(home, prepared, tmp_path, capsys):
    """Its codes mean other sounds, so a loss over them means nothing."""
    assert prepare(home / "corpus" / "train_raw.jsonl", tmp_path / "other", "--codec_window", "on") == 0
    assert fit(prepared, tmp_path / "run", "--data.val_path", str(tmp_path / "other")) == 2
    told = shown(capsys)
    assert "was prepared with the codec" in told
    assert "window-on" in told
    assert "Prepare both alike." in told
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_parts_that_can_be_frozen_are_named(prepared, tmp_path, capsys):
    assert fit(prepared, tmp_path / "run", "--model.frozen", "[foo]") == 2
    assert "text_embedding, text_projection, talker or code_predictor, and [foo] was given" in shown(capsys)
