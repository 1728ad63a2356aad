"""Lists with bars in a ``.list`` file: ``path|speaker|language|text``, or the columns that its rows show."""

from __future__ import annotations

from pathlib import Path

from tts_train.corpus.layouts.base import NAME_ONE
from tts_train.corpus.layouts.splits import training_part
from tts_train.corpus.layouts.table import Table
from tts_train.errors import DataError


class BarList(Table):
    """A ``.list`` file; bars in the text belong to the text."""

    name = "list"
    summary = "a .list file with rows path|speaker|language|text"
    is_list = True

    @classmethod
    def detect(cls, path: Path) -> BarList | None:
        """Return the layout if ``path`` has it."""
        if path.is_file():
            return cls(path, path.parent, [path]) if path.suffix == ".list" else None
        if not path.is_dir():
            return None
        # Beside the slices, in a folder of its own, and that in the tool's folder for what it puts out.
        places = ("*.list", "*/*.list", "*/*/*.list")
        lists = training_part(next((found for place in places if (found := sorted(path.glob(place)))), []), path)
        if len(lists) > 1:
            names = ", ".join(str(file.relative_to(path)) for file in lists[:5])
            raise DataError(f"{path} holds {len(lists)} lists ({names}). {NAME_ONE}")
        return cls(lists[0], path, lists) if lists else None
