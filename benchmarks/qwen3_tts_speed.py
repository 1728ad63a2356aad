"""How fast a Qwen3-TTS speaks after more training, with the right loss and with that of upstream's script.

A small network learns sentences of the sample voice by heart with the right loss. From there it is trained on, as a
user would tune a released model, with each loss and otherwise alike. What it then says of the same sentences, always
the most likely code, is as long as the recordings, or not: 1 is their speed, 0.5 twice that.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from common import machine, save, table

HEADS = ("loss", "epochs", "duration", "10 to 90 %", "ended", "first code, nats", "first code", "other codes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="qwen3-tts-speed", help="name of the files in results/")
    parser.add_argument("--sentences", type=int, default=12)
    parser.add_argument("--learn", type=int, default=80, help="epochs in which they are learned by heart")
    parser.add_argument("--epochs", type=int, nargs="+", default=(1, 5, 20), help="epochs of training after that")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    import torch

    from tests.qwen3_tts.by_heart import LOSSES, RIGHT, Sentences, learned, prepared, said, tuned

    torch.set_num_threads(given.threads)
    began = time.process_time()
    results: dict[str, Any] = {"machine": machine(), "sentences": given.sentences, "learn": given.learn, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        sentences = Sentences(prepared(Path(folder) / "prepared"), given.sentences)
        lm = learned(sentences, epochs=given.learn)
        _add(results, RIGHT, 0, said(lm, sentences))
        for loss in LOSSES:
            for epochs, found in tuned(lm, sentences, loss, given.epochs).items():
                _add(results, loss, epochs, found)
            results["cpu_seconds"] = round(time.process_time() - began)
            # After each loss, as a long run may be cut off.
            save(given.name, results, _report(results))
    print(_report(results))


def _add(results: dict[str, Any], loss: str, epochs: int, found: Any) -> None:
    row = {"loss": loss, "epochs": epochs, **found.figures(), "ratios": [round(each, 3) for each in found.ratios]}
    results["rows"].append(row)
    print({name: value for name, value in row.items() if name != "ratios"}, flush=True)


def _report(results: dict[str, Any]) -> str:
    about = results["machine"]
    rows = [
        [
            row["loss"],
            row["epochs"],
            f"{row['ratio']:.2f}",
            f"{row['p10']:.2f} to {row['p90']:.2f}",
            f"{row['ended']:.0%}",
            f"{row['cross_entropy']:.2f}",
            f"{row['accuracy']:.0%}",
            f"{row['other_codes']:.0%}",
        ]
        for row in results["rows"]
    ]
    return "\n".join(
        [
            "# Speed of speech of a Qwen3-TTS that is trained on",
            "",
            f"{about['cpu']}, torch {about['torch']}, revision {about['revision']}, {about['started']}; "
            f"{results['cpu_seconds']} s of CPU time. `{about['command']}`",
            "",
            f"{results['sentences']} sentences of the sample voice are learned by heart with the right loss in "
            f"{results['learn']} epochs (0 below), and trained on from there. Duration is frames spoken over frames of "
            "the recording, the median over the sentences and its spread, at most 3; the likeliest code is taken. The "
            "other columns are of the right code at the right place, all before it given.",
            "",
            table(HEADS, rows),
        ]
    )


if __name__ == "__main__":
    main()
