"""Where an export goes: it takes its name when it is complete and verified, and leaves nothing when it fails."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from tts_train.disk.files import is_in_use, move_directory, patiently, sync_directory, temporary_beside
from tts_train.disk.provenance import FILE_NAME
from tts_train.errors import ConfigError, DiskError

_log = logging.getLogger(__name__)


def check_place(out: Path) -> None:
    """Refuse to put an export where something else is; an earlier export of ours may be replaced.

    Raises:
        ConfigError: with what is in the way.
    """
    if out.is_dir():
        if any(out.iterdir()) and not _is_export(out):
            raise ConfigError(
                f"--out {out} has files that are no earlier export (no {FILE_NAME}). Choose another --out."
            )
    elif out.exists():
        raise ConfigError(f"--out {out} is a file, and this format is a folder. Choose another --out.")


@contextmanager
def staged_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``out`` that takes its name if the block ends well, and vanishes if it does not.

    Raises:
        DiskError: if it cannot be written.
    """
    target = out.resolve()
    temporary = temporary_beside(target)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        _open_to_readers(temporary)
        move_directory(temporary, target)
    # safetensors tells what the disk refuses by an error of its own, which is no OSError.
    except (OSError, SafetensorError) as error:
        raise _failed(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def staged_file(out: Path) -> Iterator[Path]:
    """Yield a path beside ``out`` that takes its name if the block ends well, and vanishes if it does not.

    Raises:
        DiskError: if it cannot be written.
    """
    target = out.resolve()
    temporary = temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            patiently(lambda: temporary.replace(target))
        finally:
            temporary.unlink(missing_ok=True)
        # A rename is on the disk only once the folder is: without this a power cut could leave neither file.
        sync_directory(target.parent)
    except OSError as error:
        raise _failed(out, error) from error


def _failed(out: Path, error: OSError | SafetensorError) -> DiskError:
    advice = "Close the program that has it open." if is_in_use(error) else "Free some space."
    return DiskError(f"{out} was not written, and nothing was left of it: {error}. {advice}")


def _open_to_readers(folder: Path) -> None:
    """Give the files the permissions that the user's umask gave the folder; safetensors keeps its own to the owner."""
    for path in folder.rglob("*"):
        if path.is_file():
            # Tools that serve models often run as another user.
            # Without the right to execute, which a folder has and these files need not.
            path.chmod(folder.stat().st_mode & 0o666)


def files_in(folder: Path) -> list[str]:
    """Return the files of a folder, by name."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def push(folder: Path, repository: str | None) -> dict[str, str]:
    """Upload a finished export, if a repository was asked for; return what the report says about it.

    Raises:
        ConfigError: if the hub refuses; the export itself stays.
    """
    if repository is None:
        return {}
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    _log.info("Uploading %s to %s", folder, repository)
    try:
        hub = HfApi()
        hub.create_repo(repository, private=True, exist_ok=True)
        commit = hub.upload_folder(folder_path=folder, repo_id=repository, commit_message="Add an export of tts-train")
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ConfigError(
            f"The export is complete in {folder}, but --push_to {repository} failed: {str(error).splitlines()[0]} "
            f"Log in with 'hf auth login' and type: hf upload {repository} {folder}"
        ) from error
    return {"pushed_to": str(commit.repo_url)}


def may_sign(folder: Path) -> bool:
    """Tell whether a card that says what a folder is may be written into it: it is new, empty, or has a card."""
    return not folder.is_dir() or not any(folder.iterdir()) or _card(folder) is not None


def _is_export(folder: Path) -> bool:
    return isinstance((_card(folder) or {}).get("format"), str)


def _card(folder: Path) -> dict[str, object] | None:
    try:
        card = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card if isinstance(card, dict) else None
