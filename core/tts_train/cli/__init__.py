"""The ``tts-train`` command: finds the verb, runs it, and turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from tts_train.cli.output import never_refuse_a_letter
from tts_train.cli.stopping import told_when_stopped
from tts_train.environment import quiet, refuse_unsafe
from tts_train.errors import ConfigError, Interrupted, NoTextsError, TTSTrainError
from tts_train.plugins import installed_backends

TRAIN, JOBS, SHOW = "tts_train.cli.commands.training", "tts_train.cli.commands.jobs", "tts_train.cli.commands.show"

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("tts_train.cli.commands.demo", "The whole way on a small voice, offline, on this machine."),
    "doctor": ("tts_train.cli.commands.doctor", "Is this machine able? Versions, GPU, memory, disk, missing extras."),
    "init": ("tts_train.cli.commands.init", "Write a commented recipe for a corpus."),
    "corpus": ("tts_train.cli.commands.corpus", "Make a corpus of recordings: cut, transcribe, review, merge, export."),
    "check": ("tts_train.cli.commands.check", "Say what is in a corpus or a prepared folder."),
    "prepare": (JOBS, "Recordings and text to training features."),
    "plan": ("tts_train.cli.commands.plan", "Memory, largest batch and time of a recipe, before a GPU is rented."),
    "fit": (TRAIN, "Train; the same command again continues exactly (alias: train)."),
    "validate": (TRAIN, "Score a run on the validation data, without training."),
    "test": (TRAIN, "Score a run on the test data, without training."),
    "report": ("tts_train.cli.commands.report", "Write the page about a run, also while it trains."),
    "export": (JOBS, "Write what inference tools load, read back and compared."),
    "synth": (JOBS, "Speak a text with a run, a checkpoint or an export."),
    "eval": ("tts_train.cli.commands.scoring", "Score what runs, checkpoints or exports say, side by side."),
    "sample": ("tts_train.cli.commands.scoring", "Draw many takes of each text, measured and ranked, to learn from."),
    "backends": (SHOW, "List the installed backends."),
    "plugins": (SHOW, "List the installed plugins and where they come from."),
    "formats": (SHOW, "List the export formats of a backend."),
}
ALIASES = {"train": "fit"}
INTERNAL_ERROR = TTSTrainError.exit_code
_HANDLER = "tts-train"
# How torch says on a CPU that there is too little.
_NO_MEMORY = "can't allocate memory"
# What the system says about a path that the user has to change.
_UNUSABLE = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EROFS, errno.EINVAL)
# Letters of a path that an error repeats: a pasted text must not fill the screen.
_SHOWN = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``tts-train``; None takes those of this process.

    Returns:
        The exit code: 0 done, 2 bad command, configuration or data, 3 unsafe file refused, 4 numeric failure, 5 disk,
        6 another run holds the directory, 70 internal error, 75 interrupted (the same command continues).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    never_refuse_a_letter()
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_usage())
        return 0
    if words[0] == "--version":
        print(f"tts-train {version('tts-train')}")
        return 0
    # `tts-train -c recipe.yaml` trains.
    verb, rest = ("fit", words) if words[0].startswith("-") else (words[0], words[1:])
    _log_to_stderr()
    try:
        verb = ALIASES.get(verb, verb)
        with quiet(), told_when_stopped(verb):
            return _run(verb, rest)
    except TTSTrainError as error:
        print(f"tts-train: {error}{_more(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        # Python flushes stdout once more at its end, and would print a traceback there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else ConfigError.exit_code
    except OSError as error:
        # An error that names no path leaves the user none to change.
        if error.errno not in _UNUSABLE or error.filename is None:
            return _internal(error)
        shown = str(error.filename)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        print(f"tts-train: {shown} cannot be used: {error.strerror}. Give another path.", file=sys.stderr)
        return ConfigError.exit_code
    except Exception as error:  # noqa: BLE001 - the last line of defence prints the whole traceback
        return _interrupted() if _was_interrupted(error) else _internal(error)


def _more(error: TTSTrainError) -> str:
    """Return the lines below an error that only the command line knows."""
    if not isinstance(error, NoTextsError):
        return ""
    from tts_train.cli.commands.no_texts import lines_for

    return lines_for(error)


def _internal(error: Exception) -> int:
    traceback.print_exc()
    print(f"tts-train: {_explain(error)}", file=sys.stderr)
    return INTERNAL_ERROR


def _interrupted() -> int:
    print("tts-train: interrupted", file=sys.stderr)
    return Interrupted.exit_code


def _was_interrupted(error: BaseException | None) -> bool:
    """Tell whether Ctrl+C is behind an error: numpy and others make an ImportError of one that meets their import."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _run(verb: str, words: list[str]) -> int:
    refuse_unsafe()
    if verb not in COMMANDS:
        raise ConfigError(f"There is no command {verb!r}. The commands are: {', '.join(COMMANDS)}.")
    # Late: each command imports what it needs and no more; --help takes no torch.
    module = importlib.import_module(COMMANDS[verb][0])
    code: int = module.run(verb, words)
    return code


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: tts-train COMMAND [options]",
            "",
            "Train text-to-speech voices: from recordings to a voice that inference tools load.",
            "",
            *lines,
            "",
            "'tts-train COMMAND --help' lists the options of a command; those of fit depend on --backend and --stage.",
        ]
    )


def _explain(error: Exception) -> str:
    # By name, since torch need not have been imported.
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError) or _NO_MEMORY in str(error):
        return (
            "out of memory. Lower --data.max_tokens, or choose a recipe that needs less (configs/README.md). "
            "The same command continues from the last checkpoint."
        )
    return f"internal error ({type(error).__name__}). The traceback above says where; please report it."


class _Stderr(logging.Handler):
    """Writes to what stderr is at the moment: a bar that is drawn takes its place and puts lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")
        sys.stderr.flush()


def _log_to_stderr() -> None:
    """Our loggers speak to this command's stderr; a second command of one process has its own."""
    # Backends log under the names of their own packages.
    for name in ("tts_train", *(found.entry_point.module.split(".")[0] for found in installed_backends())):
        logger = logging.getLogger(name)
        # Tests and programs call main more than once.
        for old in [handler for handler in logger.handlers if handler.name == _HANDLER]:
            logger.removeHandler(old)
        handler = _Stderr()
        handler.set_name(_HANDLER)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(os.environ.get("TTS_TRAIN_LOG", "INFO").upper())
