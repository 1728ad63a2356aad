"""Files on disk: atomic writes, file names, locks, pointers and provenance.

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.disk.apart import require_apart as require_apart
    from tts_train.disk.files import (
        disk_errors as disk_errors,
        sync_directory as sync_directory,
        temporary_beside as temporary_beside,
        write_atomically as write_atomically,
        write_json as write_json,
    )
    from tts_train.disk.place import check_place as check_place, staged_folder as staged_folder
    from tts_train.disk.provenance import (
        FILE_NAME as FILE_NAME,
        Provenance as Provenance,
        read_provenance as read_provenance,
    )
    from tts_train.disk.sound_files import check_sound_name as check_sound_name, write_sound as write_sound

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".apart": "require_apart",
        ".files": "disk_errors sync_directory temporary_beside write_atomically write_json",
        ".place": "check_place staged_folder",
        ".provenance": "FILE_NAME Provenance read_provenance",
        ".sound_files": "check_sound_name write_sound",
    },
)
