"""The archive around the tensors of a torch file: only the plain, stored members that saving writes."""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from tts_train.weights.claims import StorageClaim
from tts_train.weights.limits import Limits
from tts_train.weights.refusal import refuse
from tts_train.weights.restored import RestoredFile

SIGNATURE = b"PK\x03\x04"
"""First bytes of an archive."""

_MEMBER = re.compile(
    r"(data\.pkl|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d{1,20})"
)
_SMALL = 4096
_REGULAR = (0, stat.S_IFREG)


class Archive:
    """The checked directory of a torch archive; raises UnsafeFileError where something does not belong."""

    def __init__(self, file: RestoredFile, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        file.ration = limits.directory_bytes
        try:
            # zipfile needs no more of a file than read, seek and tell.
            self._zip = zipfile.ZipFile(cast(BinaryIO, file))
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError) as error:
            raise refuse(path, f"it is a damaged or cut off archive ({error})") from None
        finally:
            file.ration = None
        self._members = self._checked(file.size)

    def pickle(self) -> BytesIO:
        """Return the one pickle of the archive."""
        return BytesIO(self._small("data.pkl", self._limits.pickle_bytes))

    def check_storages(self, storages: Mapping[str, StorageClaim]) -> None:
        """Refuse unless each claimed storage is there with exactly the claimed number of bytes."""
        for key, claim in storages.items():
            member = self._members.get(f"data/{key}")
            if member is None:
                raise refuse(self._path, f"the data of storage {key} is missing")
            if member.file_size != claim.nbytes:
                raise refuse(self._path, f"storage {key} claims {claim.nbytes} bytes and there are {member.file_size}")

    def _checked(self, file_size: int) -> dict[str, zipfile.ZipInfo]:
        members = self._zip.infolist()
        if len(members) > self._limits.members:
            raise refuse(self._path, f"it has {len(members)} members")
        if self._zip.comment or not members or min(member.header_offset for member in members):
            raise refuse(self._path, "something was put before, after or into its archive")
        tops = {member.filename.partition("/")[0] for member in members}
        found = {member.filename.partition("/")[2]: member for member in members}
        if len(tops) != 1 or tops & {"", ".", ".."} or len(found) != len(members):
            raise refuse(self._path, "its members do not lie in one folder, each once")
        for name, member in found.items():
            self._check_member(name, member)
        if sum(member.file_size for member in members) > file_size:
            raise refuse(self._path, "its members claim more bytes than the file has")
        if "data.pkl" not in found:
            raise refuse(self._path, "it is an archive without a data.pkl, so no torch file")
        for name in set(found) - {"data.pkl"}:
            if not name.startswith("data/") and found[name].file_size > _SMALL:
                raise refuse(self._path, f"its member {name} is too large")
        return found

    def _check_member(self, name: str, member: zipfile.ZipInfo) -> None:
        shown = repr(member.filename)[:100]
        if not _MEMBER.fullmatch(name):
            raise refuse(self._path, f"its member {shown} does not belong into a weights file")
        if stat.S_IFMT(member.external_attr >> 16) not in _REGULAR:
            raise refuse(self._path, f"its member {shown} is not a regular file")
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise refuse(self._path, f"its member {shown} is compressed, and {member.file_size} bytes when it is not")
        if member.flag_bits & 1:
            raise refuse(self._path, f"its member {shown} is encrypted")

    def _small(self, name: str, most: int) -> bytes:
        member = self._members[name]
        if member.file_size > most:
            raise refuse(self._path, f"its member {name} has {member.file_size} bytes")
        try:
            return self._zip.read(member)
        except (zipfile.BadZipFile, ValueError, OSError, EOFError, RuntimeError) as error:
            raise refuse(self._path, f"its member {name} is damaged ({error})") from None
