"""A torch file's bytes, with a restored head, and the directory of its archive: only the members that saving writes."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

from tts_train.weights.claims import StorageClaim, WeightsLimits, refuse

SIGNATURE = b"PK\x03\x04"
"""First bytes of an archive."""
_MEMBER = re.compile(
    r"(data\.pkl|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d{1,20})"
)
_SMALL = 4096
_DAMAGE = (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError, RuntimeError)


class RestoredFile(io.RawIOBase):
    """Give the bytes of ``path`` with ``head`` in place of as many first bytes; nothing is copied or written.

    Some programs overwrite the signature of an archive to mark its version. This undoes it while reading. ``ration``
    is the number of bytes still allowed to be read, or None for no bound. Reads never ask for more than is there.
    """

    def __init__(self, path: Path, head: bytes = b"") -> None:
        self._file = path.open("rb")
        self._head = head
        self.size = os.fstat(self._file.fileno()).st_size
        self.ration: int | None = None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def read(self, count: int | None = -1) -> bytes:
        """Return the next ``count`` bytes, or fewer at the end; all that are left if negative."""
        start = self._file.tell()
        left = max(self.size - start, 0)
        count = left if count is None or count < 0 else min(count, left)
        if self.ration is not None:
            if count > self.ration:
                raise ValueError("its directory is larger than any weights file needs")
            self.ration -= count
        data = self._file.read(count)
        patch = self._head[start : start + len(data)]
        return patch + data[len(patch) :]

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the two that torch hands over
        """Fill ``buffer`` as far as the file reaches; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as ``io.IOBase.seek`` does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Return True: archives are read from their end."""
        return True


class Archive:
    """The checked directory of a torch archive; raises UnsafeFileError where something does not belong.

    torch's reader would follow a compressed member of a few bytes to gigabytes, and needs minutes for a directory of
    repeated entries, so both are looked at first.
    """

    def __init__(self, file: RestoredFile, path: Path, limits: WeightsLimits) -> None:
        self._path = path
        file.ration = limits.directory_bytes
        try:
            self._zip = zipfile.ZipFile(cast(IO[bytes], file))
        except _DAMAGE as error:
            raise refuse(path, f"it is a damaged or cut off archive ({error})") from None
        finally:
            file.ration = None
        self._members = self._checked(self._zip.infolist(), file.size, limits)

    def pickle(self) -> io.BytesIO:
        """Return the one pickle of the archive."""
        try:
            return io.BytesIO(self._zip.read(self._members["data.pkl"]))
        except _DAMAGE as error:
            raise refuse(self._path, f"its member data.pkl is damaged ({error})") from None

    def check_storages(self, storages: Mapping[str, StorageClaim]) -> None:
        """Refuse unless each claimed storage is there with exactly the claimed number of bytes."""
        for key, claim in storages.items():
            member = self._members.get(f"data/{key}")
            if member is None:
                raise refuse(self._path, f"the data of storage {key} is missing")
            if member.file_size != claim.nbytes:
                raise refuse(self._path, f"storage {key} claims {claim.nbytes} bytes and there are {member.file_size}")

    def _checked(self, members: list[zipfile.ZipInfo], size: int, limits: WeightsLimits) -> dict[str, zipfile.ZipInfo]:
        if len(members) > limits.members:
            raise refuse(self._path, f"it has {len(members)} members")
        # Another reader could find another archive in the same bytes, one that was not looked at.
        if self._zip.comment or not members or min(member.header_offset for member in members):
            raise refuse(self._path, "something was put before, after or into its archive")
        tops = {member.filename.partition("/")[0] for member in members}
        found = {member.filename.partition("/")[2]: member for member in members}
        if len(tops) != 1 or tops & {"", ".", ".."} or len(found) != len(members):
            raise refuse(self._path, "its members do not lie in one folder, each once")
        for name, member in found.items():
            self._check_member(name, member, limits.pickle_bytes if name == "data.pkl" else _SMALL)
        # Members that overlap: a small file that claims to be large.
        if sum(member.file_size for member in members) > size:
            raise refuse(self._path, "its members claim more bytes than the file has")
        if "data.pkl" not in found:
            raise refuse(self._path, "it is an archive without a data.pkl, so no torch file")
        return found

    def _check_member(self, name: str, member: zipfile.ZipInfo, most: int) -> None:
        shown = repr(member.filename)[:100]
        if not _MEMBER.fullmatch(name):
            raise refuse(self._path, f"its member {shown} does not belong into a weights file")
        # A link in an archive leads wherever its writer likes.
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise refuse(self._path, f"its member {shown} is not a regular file")
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise refuse(self._path, f"its member {shown} is compressed, and {member.file_size} bytes when it is not")
        if member.flag_bits & 1:
            raise refuse(self._path, f"its member {shown} is encrypted")
        if not name.startswith("data/") and member.file_size > most:
            raise refuse(self._path, f"its member {name} is too large, with {member.file_size} bytes")
