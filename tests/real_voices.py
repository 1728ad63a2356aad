"""Human voices for tests: Debian's prompts of Asterisk, fetched with apt and never committed."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest


def fetch_sounds(folder: Path, *packages: str) -> Path:
    """Unpack packages into ``folder`` and return their ``usr/share``; skip the test by name where that cannot be."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip(f"NO REAL VOICE WAS TESTED: this machine has no apt to fetch {packages[0]} with")
    for command in (["apt-get", "update", "-qq"], ["apt-get", "download", *packages]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"NO REAL VOICE WAS TESTED: apt could not fetch {packages[0]}: {done.stderr[-200:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True, timeout=120)
    return folder / "usr" / "share"


def transcripts(share: Path, language: str, count: int) -> dict[str, str]:
    """Return texts by file name (no suffix), of sentences long enough to be worth training on."""
    name = f"core-sounds-{language}.txt.gz"
    listing = gzip.decompress((share / "doc" / f"asterisk-core-sounds-{language}" / name).read_bytes()).decode("utf-8")
    found = re.findall(r"^([\w/-]+): ([^\[\]()\r\n]{25,120})$", listing, re.MULTILINE)
    return dict(sorted(found)[:count])
