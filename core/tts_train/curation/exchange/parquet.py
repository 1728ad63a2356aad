"""Exports as Parquet with the recordings in it: plain files, and a folder that ``datasets`` loads with its features."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tts_train.curation.exchange.formats import CorpusFormat, Item, Written, by_split

_SHARD_BYTES = 400 << 20
"""About what the hub's own shards have, so that they are read side by side."""
_GROUP_ROWS = 64
_SAYS = frozenset({"speaker", "language"})
_FEATURES = {
    "audio": {"_type": "Audio"},
    "text": {"dtype": "string", "_type": "Value"},
    "speaker": {"dtype": "string", "_type": "Value"},
    "language": {"dtype": "string", "_type": "Value"},
    "duration": {"dtype": "float64", "_type": "Value"},
}


class ParquetFiles(CorpusFormat):
    """One file for each part."""

    name = "parquet"
    summary = "a Parquet file for each part, with audio (bytes), text, speaker, language, duration"
    embeds = True

    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write them; the recordings are taken from the folder."""
        found = []
        for part, held in by_split(items).items():
            name = f"{part or 'data'}.parquet"
            write_parquet(folder / name, folder, held)
            found.append(Written(path=name, items=held, says=_SAYS))
        return found


class HubFolder(CorpusFormat):
    """Shards by part, with a card, as the hub keeps them."""

    name = "huggingface"
    summary = "a folder for load_dataset: Parquet shards with an Audio feature, and README.md"
    embeds = True
    shards: ClassVar[str] = "data"

    def write(self, folder: Path, items: Sequence[Item]) -> list[Written]:
        """Write them; the recordings are taken from the folder."""
        (folder / self.shards).mkdir(exist_ok=True)
        found = []
        for part, held in by_split(items).items():
            pieces = list(_shards(folder, held))
            for number, piece in enumerate(pieces):
                name = f"{self.shards}/{part or 'train'}-{number:05d}-of-{len(pieces):05d}.parquet"
                write_parquet(folder / name, folder, piece)
                found.append(Written(path=name, items=piece, says=_SAYS))
        (folder / "README.md").write_text(_card(items), encoding="utf-8")
        return found


def _shards(folder: Path, items: Sequence[Item]) -> Iterator[list[Item]]:
    shard, size = list[Item](), 0
    # By size of the recordings: rows differ a hundredfold in length.
    for item in items:
        size += (folder / item.file).stat().st_size
        if shard and size > _SHARD_BYTES:
            yield shard
            shard, size = [], (folder / item.file).stat().st_size
        shard.append(item)
    yield shard


def write_parquet(file: Path, folder: Path, items: Sequence[Item]) -> None:
    """Write rows with their recordings, some at a time, so that memory holds few of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    audio = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    kinds = {"audio": audio, "text": pa.string(), "speaker": pa.string(), "language": pa.string()}
    # By this entry ``datasets`` knows that a struct of bytes and path is sound.
    told = {"huggingface": json.dumps({"info": {"features": _FEATURES}})}
    schema = pa.schema({**kinds, "duration": pa.float64()}, metadata=told)
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(items), _GROUP_ROWS):
            rows = [_row(folder, item) for item in items[start : start + _GROUP_ROWS]]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _row(folder: Path, item: Item) -> dict[str, Any]:
    path = folder / item.file
    return {
        "audio": {"bytes": path.read_bytes(), "path": path.name},
        "text": item.row.text,
        "speaker": item.row.speaker,
        "language": item.row.language,
        "duration": round(item.seconds, 4),
    }


def _card(items: Sequence[Item]) -> str:
    """Return the README with the front matter that tells ``load_dataset`` of the parts."""
    parts = by_split(items)
    names = [part or "train" for part in parts]
    # Without these lines the hub takes each file for a split by words in its name.
    files = [line for name in names for line in (f"  - split: {name}", f"    path: data/{name}-*")]
    languages = sorted({item.row.language for item in items if item.row.language})
    front = ["configs:", "- config_name: default", "  data_files:", *files]
    if languages:
        # A code may hold anything a person typed; JSON's strings are YAML's.
        front += ["language:", *(f"- {json.dumps(language, ensure_ascii=False)}" for language in languages)]
    front += ["task_categories:", "- text-to-speech"]
    speakers = Counter(item.row.speaker or "(not named)" for item in items)
    told = [f"| {part or 'train'} | {len(held)} | {_hours(held)} |" for part, held in parts.items()]
    named = ", ".join(f"{_plain(name)} ({count})" for name, count in speakers.most_common(50))
    lines = [
        "---", *front, "---", "",
        "# Recordings with their texts", "",
        "| part | rows | hours |", "| --- | --- | --- |", *told, "",
        f"Speakers: {named}.", "",
        "Written by `tts-train corpus export`. Whose voices these are, and what may be done with them, is for whoever "
        "publishes this to say here.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _plain(name: str) -> str:
    """A name that is no markup."""
    return "".join(letter for letter in name if letter.isalnum() or letter in " -_.()")


def _hours(items: Sequence[Item]) -> str:
    return f"{sum(item.seconds for item in items) / 3600:.2f}"
