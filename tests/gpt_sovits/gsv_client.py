"""What gsv-tts-lite says: ``gsv_client.py FOLDER VERSION...``, inputs and answers as NumPy files there.

Importing the package opens a sound card and wants models that are downloads; its loaders and networks do not.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

package = types.ModuleType("gsv_tts")
package.__path__ = list(importlib.util.find_spec("gsv_tts").submodule_search_locations)
sys.modules["gsv_tts"] = package

from gsv_tts.Config import Config  # noqa: E402
from gsv_tts.GPT_SoVITS.GPT.utils import logits_to_probs  # noqa: E402
from gsv_tts.Loader import get_gpt_weights, get_sovits_weights  # noqa: E402


@torch.inference_mode()
def main(folder, versions):
    given = {name: torch.from_numpy(array) for name, array in np.load(folder / "given.npz").items()}
    config = Config()
    config.use_flash_attn, config.sovits_cache = False, []
    config.device, config.dtype = torch.device("cpu"), torch.float32
    config.gpt_cache = [(1, len(given["phonemes"]) + len(given["prompt"]) + int(given["limit"]))]
    network = get_gpt_weights(str(folder / "s1.ckpt"), config).t2s_model
    codes = network.infer(given["phonemes"][None], given["prompt"][None], given["bert"][None], top_k=1)
    said, told = {"codes": codes[0, 0].numpy()}, {}
    settings = {"temperature": 0.8, "top_k": 15, "top_p": 0.9, "repetition_penalty": 1.35}
    said["chances"] = logits_to_probs(given["logits"], given["prompt"][None], **settings).numpy()
    for version in versions:
        network = get_sovits_weights(str(folder / f"{version}.pth"), config).vq_model
        told[version] = network.version
        style = network.get_ge(given["reference"], given["speaker"] if "Pro" in version else None)
        sound, _ = network.decode(given["codes"][None, None], given["text"][None], style, noise_scale=0)
        said[version] = sound[0, 0].numpy()
    np.savez(folder / "gsv.npz", **said)
    print("\n" + json.dumps(told))


main(Path(sys.argv[1]), sys.argv[2:])
