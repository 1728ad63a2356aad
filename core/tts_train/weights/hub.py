"""Whether the Hugging Face hub can be reached, found out once and without the retries of its libraries."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from tts_train.errors import ConfigError


@lru_cache(maxsize=1)
def unreachable() -> bool:
    """Tell whether only what is cached can be loaded: ``HF_HUB_OFFLINE`` is set, or no address of the hub is found.

    Pass it as ``local_files_only``. Where a proxy is set, the proxy finds addresses, and the hub counts as reachable.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return True
    # Behind a proxy this machine may resolve no name at all, and still reach the hub.
    if urllib.request.getproxies():
        return False
    try:
        # Only the name is looked up: connecting would wait for a time-out where a firewall drops what is sent.
        socket.getaddrinfo(_host(), 443)
    except OSError:
        return True
    return False


@contextmanager
def from_hub(source: str, *, failed: str, advice: str) -> Iterator[bool]:
    """Tell why something could not be loaded in the block, from a folder or the hub.

    Yields:
        What to pass as ``local_files_only``: whether only what is cached can be loaded.

    Args:
        source: the folder or hub name.
        failed: what could not be done, as in ``No tokenizer could be loaded from 'x':``.
        advice: what to give instead.

    Raises:
        ConfigError: for what huggingface_hub, transformers and tokenizers raise over files that are missing or damaged.
    """
    try:
        yield unreachable()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{failed} {why_missing(error, source)} {advice}") from error
    # The libraries read entries of such a file without asking whether it has any.
    except (AttributeError, TypeError, KeyError) as error:
        file = _no_object(Path(source).expanduser())
        other = f"its files are damaged or of another kind ({type(error).__name__}: {error})"
        raise ConfigError(f"{failed} {other if file is None else f'{file} holds no JSON object'}. {advice}") from error
    except Exception as error:
        # tokenizers raises the class itself over files that it cannot read.
        if type(error) is not Exception:
            raise
        raise ConfigError(f"{failed} {why_missing(error, source)} {advice}") from error


def why_missing(error: Exception, source: str) -> str:
    """Return in a sentence why ``source``, a folder or a hub name, could not be loaded: its error, or no network."""
    if unreachable() and not Path(source).expanduser().exists():
        return f"there is no such folder, it is not in the cache of this machine, and {_host()} cannot be reached."
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _no_object(folder: Path) -> Path | None:
    for file in sorted(folder.glob("*.json")):
        try:
            if not isinstance(json.loads(file.read_text(encoding="utf-8")), dict):
                return file
        except (OSError, ValueError):
            return file
    return None


def _host() -> str:
    from huggingface_hub import constants

    # HF_ENDPOINT may name a mirror, which is then the host to look for.
    return urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT
