"""What gpt-sovits-cpufast says: ``cpufast_client.py FOLDER VERSION...``, inputs and answers as NumPy files there.

Its interface wants models of language and speech that are downloads. Here its loaders and both its networks are called
as its interface does.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(importlib.util.find_spec("GPT_SoVITS").submodule_search_locations[0])))

from AR.models.t2s_lightning_module import Text2SemanticLightningModule
from AR.models.utils import logits_to_probs
from module.models import SynthesizerTrn
from process_ckpt import get_sovits_version_from_path_fast, load_sovits_new


def gpt(file):
    content = torch.load(file, map_location="cpu", weights_only=False)
    network = Text2SemanticLightningModule(
        content["config"], "****", is_train=False, build_t2s_transformer=False, build_h_module=False
    )
    network.load_inference_only_state_dict(content["weight"])
    network.model.release_inference_only_unused_modules()
    return network.eval().model


def sovits(file):
    content = load_sovits_new(file)
    told = get_sovits_version_from_path_fast(file)[1]
    if "Pro" not in told:
        told = "v1" if content["weight"]["enc_p.text_embedding.weight"].shape[0] == 322 else "v2"
    settings = content["config"]
    settings["model"] |= {"semantic_frame_rate": "25hz", "version": told}
    network = SynthesizerTrn(
        settings["data"]["filter_length"] // 2 + 1,
        settings["train"]["segment_size"] // settings["data"]["hop_length"],
        n_speakers=settings["data"]["n_speakers"],
        **settings["model"],
    )
    absent = network.load_state_dict(content["weight"], strict=False)
    assert not absent.unexpected_keys
    assert all(name.startswith("enc_q.") for name in absent.missing_keys), absent
    network.dec.remove_weight_norm()
    return network.eval(), told


@torch.inference_mode()
def main(folder, versions):
    given = {name: torch.from_numpy(array) for name, array in np.load(folder / "given.npz").items()}
    network, limit = gpt(folder / "s1.ckpt"), int(given["limit"])
    phonemes = given["phonemes"]
    texts, prompts, berts = [phonemes], given["prompt"][None], [given["bert"].T]
    drawing = {"top_k": 1, "top_p": 1, "early_stop_num": limit, "temperature": 1.0, "repetition_penalty": 1.35}
    codes, counts = network.infer_panel_naive_batched(texts, torch.tensor([len(phonemes)]), prompts, berts, **drawing)
    said, told = {"codes": codes[0][-counts[0] :].numpy()}, {}
    settings = {"temperature": 0.8, "top_k": 15, "top_p": 0.9, "repetition_penalty": 1.35}
    said["chances"] = logits_to_probs(given["logits"], given["prompt"][None], **settings).numpy()
    for version in versions:
        network, told[version] = sovits(folder / f"{version}.pth")
        speaker = {"sv_emb": [given["speaker"]]} if "Pro" in version else {}
        codes, text, references = given["codes"][None, None], given["text"][None], [given["reference"]]
        sound = network.decode(codes, text, references, noise_scale=0, **speaker)
        said[version] = sound[0, 0].numpy()
    np.savez(folder / "cpufast.npz", **said)
    print("\n" + json.dumps(told))


main(Path(sys.argv[1]), sys.argv[2:])
