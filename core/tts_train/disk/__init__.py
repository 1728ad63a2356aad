"""Files on disk: atomic writes, file names, locks, pointers and provenance.

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.disk.files import write_atomically as write_atomically, write_json as write_json
    from tts_train.disk.place import staged_file as staged_file
    from tts_train.disk.provenance import export_card as export_card

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".files": "write_atomically write_json",
        ".place": "staged_file",
        ".provenance": "export_card",
    },
)
