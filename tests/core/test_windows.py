"""The commands where Windows' refusals are simulated (``like_windows/sitecustomize.py``): no Windows was ever asked."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tts_train.cli import main
from tts_train.demo.journey import VOICE
from tts_train.disk.apart import require_allowed
from tts_train.errors import ConfigError
from tts_train.recipes import find_recipe
from tts_train.run.checkpoint import open_checkpoint
from tts_train.run.directory import RunDirectory
from tts_train.run.lock import RunLock

pytestmark = pytest.mark.timeout(900)

LIKE_WINDOWS = Path(__file__).parent / "like_windows"
COMMANDS = """
import json, sys
from tts_train.cli import main
for words in json.loads(sys.argv[1]):
    print("code", main(words), flush=True)
"""
HOLD = """
import sys
from pathlib import Path
from tts_train.run.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
TEXTS = {"sample-01": "Good morning, and welcome.", "sample-02": "Überraschung: 你好!", "sample-03": "It is late."}
FIT = ["--trainer.max_steps", 3, "--trainer.val_check_interval", 1, "--listen.sentences", 0, "--data.val_share", 0.4]


OPEN_ELSEWHERE = """
import sys
from pathlib import Path
import pyarrow as pa
from tts_train.datasets.store.shard_store import ShardStore
from tts_train.datasets.store.shards import PreparedSet
from tts_train.errors import DiskError
from tts_train.disk import files
from tts_train.disk.place import staged_file

files._PAUSES = ()
folder = Path(sys.argv[1])
store = ShardStore(folder / "set", pa.schema([("id", pa.string()), ("n", pa.int32())]), kind="toy", length_column="n")

def finish(key):
    shard = store.write(key, [{"id": key, "n": 1}], account={})
    store.finish([shard], settings={}, report={"rows": 1, "kept": 1, "dropped": {}})
    return sorted(path.name for path in (folder / "set" / "data").iterdir())

print(finish("one"))
being_read = PreparedSet(folder / "set")
assert being_read.row(0)["id"] == "one"
print(finish("two"))
assert being_read.row(0)["id"] == "one" and PreparedSet(folder / "set").row(0)["id"] == "two"
del being_read
print(finish("three"))
(folder / "voice.ckpt").write_bytes(b"old")
with open(folder / "voice.ckpt", "rb"):
    try:
        with staged_file(folder / "voice.ckpt") as out:
            out.write_bytes(b"new")
    except DiskError as error:
        print(error)
print([path.name for path in folder.iterdir() if path.name != "set"], (folder / "voice.ckpt").read_bytes())
"""


def start(script: str, *words: object, **settings) -> subprocess.Popen[str]:
    paths = [str(LIKE_WINDOWS), *filter(None, sys.path)]
    settings["env"] = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "cp1252"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script, *map(str, words)], **pipes, encoding="cp1252", **settings)


def run(*commands: list[object]) -> tuple[int, str, str]:
    """Run commands one after the other in one simulated process; return its exit code, stdout and stderr."""
    child = start(COMMANDS, json.dumps([[*map(str, words)] for words in commands]))
    out, err = child.communicate()
    return child.returncode, out, err


def codes(out: str) -> list[int]:
    return [int(line.split()[1]) for line in out.splitlines() if line.startswith("code ")]


def test_the_simulation_refuses_what_windows_refuses(tmp_path):
    """Else the tests below would show nothing."""
    script = """
import importlib.util, os, sys
sys.path.insert(0, sys.argv[1])
spec = importlib.util.spec_from_file_location("tts_train_probe", sys.argv[1] + "/probe.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""
    (tmp_path / "probe.py").write_text(
        """
import os, signal, sys
from pathlib import Path
here = Path(sys.argv[1])
def refused(work, kind=OSError):
    try:
        work()
    except kind:
        return
    raise SystemExit("not refused: line %d" % sys._getframe(1).f_lineno)
def modules():
    import fcntl
assert (sys.platform, os.name) == ("win32", "nt")
assert not any(hasattr(os, n) for n in ("fork", "statvfs", "geteuid", "killpg", "sched_getaffinity", "O_DIRECTORY"))
assert not any(hasattr(signal, n) for n in ("SIGKILL", "SIGUSR1", "SIGHUP"))
refused(modules, ImportError)
refused(lambda: (here / "link").symlink_to("probe.py"))
refused(lambda: os.open(here, os.O_RDONLY), PermissionError)
refused(lambda: open(here / "a:b", "w", encoding="utf-8"))
refused(lambda: (here / "con.txt").write_text("", encoding="utf-8"))
refused(lambda: open(here / "a", "w"), EncodingWarning)
(here / "old").mkdir(), (here / "new").mkdir()
refused(lambda: (here / "new").rename(here / "old"), FileExistsError)
with open(here / "old" / "file", "w", encoding="utf-8"):
    refused(lambda: (here / "old").rename(here / "older"), PermissionError)
    refused(lambda: (here / "old" / "file").unlink(), PermissionError)
(here / "old").rename(here / "older")
""",
        encoding="utf-8",
    )
    done = start(script, tmp_path)
    _, err = done.communicate()
    assert done.returncode == 0, err


def test_one_writer(tmp_path):
    """The stand-in for msvcrt locks the same byte; that byte lies behind what others must be able to read."""
    path = tmp_path / "run" / ".lock"
    path.parent.mkdir()
    holder = start(HOLD, path)
    assert holder.stdout.readline() == "held\n"
    held = json.loads(path.read_text(encoding="utf-8"))
    assert held["pid"] == holder.pid, "who holds it can be read"
    with path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1 << 20, 0)  # what holds the name is not locked
        with pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # something behind it is
    second = start(HOLD, path)
    _, err = second.communicate()
    assert f"RunLockedError: Another run uses {path.parent}: process {holder.pid} on " in err
    assert "Ctrl-C in its window" in err
    holder.kill()
    holder.wait()
    third = start(HOLD, path)
    assert third.stdout.readline() == "held\n", third.stderr.read()
    assert third.communicate("")[0] == ""
    assert third.returncode == 0
    with RunLock(path):
        pass


def test_what_another_program_has_open_stays_and_is_told(tmp_path):
    child = start(OPEN_ELSEWHERE, tmp_path)
    out, err = child.communicate()
    assert child.returncode == 0, err
    first, while_read, afterwards, told, left = out.splitlines()
    assert [len(json.loads(names.replace("'", '"'))) for names in (first, while_read, afterwards)] == [1, 2, 1]
    assert told.endswith("Close the program that has it open.")
    assert left == "['voice.ckpt'] b'old'"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "Sprecher 1"
    (folder / "wavs").mkdir(parents=True)
    for name in TEXTS:
        shutil.copy(VOICE / "wavs" / f"{name}.flac", folder / "wavs")
    lines = [f"wavs\\{name}.flac|{text}|李华" for name, text in TEXTS.items()]
    (folder / "metadata.csv").write_text("\n".join(["audio|text|speaker", *lines]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.slow
def test_from_recordings_to_a_sound(corpus, tmp_path, capsys):
    prepared, run_dir = tmp_path / "prepared", tmp_path / "run"
    voice = ["--codec", "tiny", "--tokenizer", "tiny"]
    fit = ["fit", "-c", find_recipe("orpheus", "lm-tiny"), "--data.path", prepared, *FIT]
    code, out, err = run(
        ["check", corpus, "--json"],
        ["fit", "--backend", "orpheus", "--data.path", tmp_path / "none", "--run_dir", run_dir],
        ["prepare", "--backend", "orpheus", "--corpus", corpus, "--out", prepared, *voice],
        [*fit, "--run_dir", run_dir, "--debug.inject", "kill@step=2"],
    )
    assert (code, codes(out)) == (9, [0, 2, 0]), err
    checked = next(json.loads(line) for line in out.splitlines() if line.startswith("{"))
    assert (checked["kept"], list(checked["speakers"])) == (3, ["李华"]), "letters that cp1252 lacks are escaped"
    assert "Traceback" not in err

    latest = run_dir / "checkpoints"
    code, out, err = run(
        [*fit, "--run_dir", run_dir, "--debug.inject", "kill@step=2,term@step=2"],
        [*fit, "--run_dir", run_dir],
        ["export", latest / "best", "--format", "hf", "--out", tmp_path / "hf"],
        ["export", run_dir, "--format", "hf", "--out", tmp_path / "hf"],
        ["synth", latest / "last", "--text", "Hi.", "--out", tmp_path / "hi.wav", "--max_new_tokens", 60,
         "--constrain", "slots", "--codec", "tiny"],
        ["synth", run_dir, "--text", "Hi.", "--out", tmp_path / "hi:there.wav"],
        ["report", run_dir],
    )  # fmt: skip
    assert (code, codes(out)) == (0, [75, 0, 0, 0, 0, 2, 0]), err
    assert "saved at step 2" in err
    assert "Taking over the lock" in err
    assert "'hi:there.wav' is no name for a file under Windows" in err
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink() or path.name.startswith(".tmp")]
    assert (latest / "last").read_text(encoding="utf-8") == "step-000003\n"
    assert RunDirectory(run_dir).linked("best") in RunDirectory(run_dir).steps()

    assert main([*map(str, fit), "--run_dir", str(tmp_path / "whole")]) == 0, capsys.readouterr().err
    whole, parts = (open_checkpoint(tmp_path / name / "checkpoints" / "last").weights() for name in ("whole", "run"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole | parts), "the same as without interruptions"


@pytest.mark.slow
def test_ctrl_c_reaches_all_processes_and_the_run_saves_itself(tmp_path):
    """As a terminal does it; processes that load data are spawned here, as on macOS, and inherit no handlers."""
    words = ["fit", "--backend", "toy", "--trainer.accelerator", "cpu", "--trainer.max_steps", 1_000_000,
             "--data.num_workers", 1, "--checkpoint.every_n_steps", 50, "--run_dir", tmp_path]  # fmt: skip
    child = start(COMMANDS, json.dumps([[*map(str, words)]]), start_new_session=True)
    while child.poll() is None and not RunDirectory(tmp_path).steps():
        time.sleep(0.1)
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate()
    assert codes(out) == [75], err
    assert "SIGINT: saving at the end of this step." in err
    assert "saved at step" in json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["exit_reason"]


@pytest.mark.parametrize(
    ("word", "line"),
    [("C:\\voices\\x", "C:\\voices\\x"), ("C:\\my voices\\", '"C:\\my voices\\\\"'), ("a|b", '"a|b"'), ("", '""')],
)
def test_commands_to_paste_are_quoted_for_the_shells_there(word, line, monkeypatch):
    from tts_train.errors import quoted

    assert quoted("a b") == "'a b'"
    monkeypatch.setattr(sys, "platform", "win32")
    assert quoted("tts-train", word) == f"tts-train {line}"


@pytest.mark.parametrize("name", ["CON", "nul.wav", "lpt1.old.ckpt", "a:b.wav", "what?", "end.", "end ", "a|b/c"])
def test_names_that_windows_keeps_are_refused_there(name, monkeypatch):
    require_allowed(Path(name))
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match=r"--out .* is no name for a file under Windows"):
        require_allowed(Path("out") / name)
    for fine in ("out/../con-1/console.wav", "/tmp/com10", ".hidden", "Überraschung 你好.wav"):
        require_allowed(Path(fine))
