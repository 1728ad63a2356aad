"""Find the audio that a row names, inside the corpus only, with few system calls for a million rows."""

# ruff: noqa: PTH110, PTH112, PTH113, PTH117, PTH118, PTH119, PTH120, PTH122 - a million rows pass here; strings cost a tenth of Path objects

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from os import path as osp
from pathlib import Path
from typing import NamedTuple

from tts_train.corpus.rows.names import AUDIO_SUFFIXES, bare_name, fold, is_audio, is_path, same_form

AUDIO_FOLDERS = ("", "wavs", "wav", "audio", "clips")

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class Found(NamedTuple):
    """An audio file that a row names."""

    path: Path
    name: str
    """Relative to the corpus, ``/`` between; absolute for a file outside that was allowed."""
    warnings: tuple[str, ...] = ()


class NotFound(NamedTuple):
    """Why a name leads to no usable file."""

    reason: str
    detail: str


class AudioFinder:
    """Resolves names of audio files against a corpus.

    Args:
        root: folder whose real path no file may leave.
        allow_outside: read files outside of the root as well.
    """

    def __init__(self, root: Path, *, allow_outside: bool = False) -> None:
        self.root = osp.realpath(root)
        self.boundary = _boundary(self.root)
        self.allow_outside = allow_outside
        self.ambiguous: frozenset[int] = frozenset()
        """Hashes of the last parts of paths that several of the corpus's paths share: alone, they name no file."""
        self._index: dict[str, str | None] | None = None
        self._alike: dict[str, str] | None = None
        self._folders: dict[str, _Folder | None] = {}
        self._outside: set[str] = set()
        self._known: dict[tuple[str, str], list[tuple[str, _Folder | None]]] = {}

    def find(self, name: str, *, base: str | None = None, relocate: bool = True) -> Found | NotFound:
        """Return the file called ``name``, as a path from ``base`` (default: the root), its ``wavs/`` and the like.

        The suffix may be missing; Unicode forms, letter case and path separators of another system are matched too.
        Without ``relocate`` the end of a path alone is not looked for.
        """
        if "\0" in name or not name.strip() or not is_path(name):
            return NotFound("missing", "the row names no file")
        if osp.isabs(name) or name.startswith("/") or _DRIVE.match(name):  # no drive is no place under Windows
            return self._find_absolute(name, base, relocate)
        found = self._find_relative(name, base) or (self._relocate(name, base) if relocate else None)
        return found or self._say_missing(name)

    def unlisted(self) -> int:
        """Count the audio files that lie beside the ones that were found, and that nothing asked for."""
        # Keyed by the real path, since one folder has an entry for each spelling.
        folders = {folder.real: folder for folder in self._folders.values() if folder and folder.used}
        names = [name for folder in folders.values() for name, kind in folder.names.items() if kind == "f"]
        return sum(1 for name in names if is_audio(name))

    def _find_absolute(self, name: str, base: str | None, relocate: bool) -> Found | NotFound:
        # lexists: a link to nothing is told as one, not as a path that is not there.
        if osp.isabs(name) and osp.lexists(name):
            return self._check(osp.dirname(name), osp.basename(name), ())
        missing = NotFound("missing", f"no file {name!r}, and none like it in {self.root}{self._hint(name)}")
        return (self._relocate(name, base) if relocate else None) or missing

    def _relocate(self, name: str, base: str | None) -> Found | None:
        """Find a file by the end of a path that starts at another folder or machine. The longest end wins.

        The last part alone is enough only where it stands for one path of the list and one file of the corpus.
        """
        parts = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".") and not part.endswith(":")]
        for first in range(len(parts)):
            alone = first == len(parts) - 1
            # 0001.wav of two speakers: the last part would give one the recording of the other.
            if alone and hash(bare_name(name)) in self.ambiguous:
                return None
            found = self._find_relative("/".join(parts[first:]), base)
            if alone and not isinstance(found, Found):
                found = self._find_anywhere(parts[-1])
            if isinstance(found, Found):
                return found._replace(warnings=(*found.warnings, "path_relocated"))
        return None

    def _find_anywhere(self, name: str) -> Found | None:
        if self._index is None:
            self._index = {}
            for folder, names in walk(self.root):
                for actual in filter(is_audio, names):
                    for key in (actual, osp.splitext(actual)[0]):
                        # None: two files have this name, and neither may be chosen.
                        self._index[key] = None if key in self._index else folder
        place = self._index.get(name)
        listing = self._folder(place) if place is not None else None
        match = listing.match(name) if listing else None
        if place is None or match is None:
            return None
        found = self._check(place, *match)
        return found if isinstance(found, Found) else None

    def _say_missing(self, name: str) -> NotFound:
        """A path that starts at a folder above the corpus leads out of it; said without looking there."""
        above, first = Path(self.root).parts, re.split(r"[\\/]+", name)[0]
        if first in above[1:]:
            start = above[: len(above) - above[::-1].index(first) - 1]
            target = osp.normpath(osp.join(*start, name.replace("\\", "/")))
            if not is_inside(target, self.root):
                return NotFound("outside_root", f"no file {name!r} in {self.root}; {self._advice(target)}")
        return NotFound("missing", f"no file {name!r} in {self.root}{self._hint(name)}")

    def _hint(self, name: str) -> str:
        """Name a recording that differs from a missing one in its suffix or folder only; it may be another one."""
        if self._alike is None:
            self._alike = {}
            for folder, names in walk(self.root):
                for actual in filter(is_audio, names):
                    self._alike.setdefault(
                        fold(osp.splitext(actual)[0]), osp.join(osp.relpath(folder, self.root), actual)
                    )
        last = re.split(r"[\\/]+", name)[-1]
        found = self._alike.get(fold(osp.splitext(last)[0] if is_audio(last) else last))
        return f"; if {osp.normpath(found).replace(os.sep, '/')} is meant, write that into the row" if found else ""

    def _advice(self, target: str) -> str:
        return f"if it is {target}, name the folder that holds both: {osp.commonpath([target, self.root])}"

    def _find_relative(self, name: str, base: str | None) -> Found | NotFound | None:
        left = False
        # A backslash is a letter in names on Linux, so the name is tried as it is first.
        for spelling in (name, name.replace("\\", "/")) if "\\" in name else (name,):
            folder_part, _, last = spelling.rpartition("/")
            for path, listing in self._places(base or self.root, folder_part):
                if listing is None:
                    left = left or path in self._outside
                elif match := listing.match(last):
                    return self._check(path, *match)
        if not left:
            return None
        target = osp.normpath(osp.join(base or self.root, name.replace("\\", "/")))
        return NotFound("outside_root", f"{name!r} leads out of {self.boundary}; {self._advice(target)}")

    def _places(self, base: str, folder_part: str) -> list[tuple[str, _Folder | None]]:
        """The folders in which a name that starts so may lie, the likeliest first."""
        key = (base, folder_part)
        if key not in self._known:
            # A list in a folder of its own may name files from there or from the root.
            starts = (base,) if base == self.root else (base, self.root)
            paths = [osp.join(start, folder, folder_part) for start in starts for folder in AUDIO_FOLDERS]
            self._known[key] = [(path, self._folder(path)) for path in paths]
        return self._known[key]

    def _check(self, folder: str, name: str, warnings: tuple[str, ...]) -> Found | NotFound:
        listing = self._folder(folder)
        kind = listing.names.get(name, "?").lower() if listing else "?"
        if listing and kind == "f" and (listing.inside or self.allow_outside):
            listing.use(name)
            return Found(Path(listing.real, name), listing.prefix + name, warnings)
        real = osp.join(listing.real if listing else osp.realpath(folder), name)
        if kind in "l?":
            real = osp.realpath(real)
            if not self.allow_outside and not self._inside(real):
                return NotFound("outside_root", f"{name!r} leads out of {self.boundary} to {real!r}")
            kind = "f" if osp.isfile(real) else "d" if osp.exists(real) else "missing"
        if kind != "f":
            reason = "missing" if kind == "missing" else "not_regular"
            detail = "a link to nothing" if kind == "missing" else "a folder, a pipe or a device"
            return NotFound(reason, f"{name!r} is {detail}")
        if listing is None:
            return NotFound("missing", f"{name!r} cannot be reached")
        listing.use(name)
        if is_inside(real, self.root) and (target := self._folder(osp.dirname(real))):
            # A link within the corpus is the recording that it leads to.
            listing, name = target, osp.basename(real)
            listing.use(name)
        return Found(Path(listing.real, name), listing.prefix + name, warnings)

    def _folder(self, path: str) -> _Folder | None:
        if path not in self._folders:
            # One folder under two spellings is one, or a file used under one would count as unlisted under the other.
            real = osp.realpath(path)
            if real not in self._folders:
                self._folders[real] = _Folder.read(real, self)
            if real in self._outside:
                self._outside.add(path)
            self._folders[path] = self._folders[real]
        return self._folders[path]

    def _inside(self, real: str) -> bool:
        return is_inside(real, self.boundary)


class _Folder:
    """The entries of one folder, read once."""

    def __init__(self, real: str, names: dict[str, str], finder: AudioFinder) -> None:
        self.real = real
        self.names = names
        """Kind by name: f a file, l a link, d anything else; in upper case once a row has named it."""
        self.used = False
        self.inside = is_inside(real, finder.boundary)
        relative = osp.relpath(real, finder.root) if is_inside(real, finder.root) else real
        self.prefix = "" if relative == "." else relative.replace(os.sep, "/") + "/"
        self._folded: dict[str, list[str]] | None = None

    @classmethod
    def read(cls, path: str, finder: AudioFinder) -> _Folder | None:
        real = osp.realpath(path)
        # Folders outside are not even listed, so that a list cannot probe the disk.
        if not finder.allow_outside and not is_inside(real, finder.boundary):
            finder._outside.add(path)
            return None
        try:
            with os.scandir(real) as entries:
                return cls(real, {entry.name: _kind(entry) for entry in entries}, finder)
        except OSError:
            return None

    def use(self, name: str) -> None:
        self.used = True
        self.names[name] = "L" if self.names.get(name) in ("l", "L") else "F"

    def match(self, name: str) -> tuple[str, tuple[str, ...]] | None:
        if name in self.names:
            return name, ()
        # LJSpeech and its kin leave the suffix out.
        for suffix in AUDIO_SUFFIXES:
            if name + suffix in self.names:
                return name + suffix, ()
        return self._match_folded(name)

    def _match_folded(self, name: str) -> tuple[str, tuple[str, ...]] | None:
        if self._folded is None:
            self._folded = {}
            for actual in self.names:
                for key in {fold(actual), fold(osp.splitext(actual)[0]) if is_audio(actual) else fold(actual)}:
                    self._folded.setdefault(key, []).append(actual)
        candidates = self._folded.get(fold(name), [])
        # The same letters in another Unicode form, as macOS stores them, are the same name; another case is told.
        same_case = [actual for actual in candidates if same_form(actual, name)]
        if len(same_case) == 1:
            return same_case[0], ()
        return (candidates[0], ("case_mismatch",)) if len(candidates) == 1 else None


def is_inside(real: str, root: str) -> bool:
    """Tell whether a real path is the folder ``root`` or below it."""
    return real == root or real.startswith(root if root.endswith(os.sep) else root + os.sep)


def walk(root: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder, sorted names of its non-folders) below ``root``, sorted, not following links to folders."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # A link or a folder that is called like audio was meant as a row, and must not vanish.
        odd = [name for name in folders if is_audio(name)]
        folders[:] = [name for name in folders if name not in odd]
        yield folder, sorted([*names, *odd])


def first_existing(root: Path, names: Iterable[str]) -> Path | None:
    """Return the first of ``names`` that is a file in ``root``."""
    return next((root / name for name in names if (root / name).is_file()), None)


def _kind(entry: os.DirEntry[str]) -> str:
    # Both are told by the listing of the folder, without asking the system for each file (os.scandir).
    if entry.is_symlink():
        return "l"
    return "f" if entry.is_file(follow_symlinks=False) else "d"


def _boundary(root: str) -> str:
    """A snapshot in the hub's cache is a folder of links into ``blobs``, two folders up: the whole is the corpus."""
    parent = osp.dirname(root)
    outer = osp.dirname(parent)
    return outer if osp.basename(parent) == "snapshots" and osp.isdir(osp.join(outer, "blobs")) else root
