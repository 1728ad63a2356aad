"""What genie-tts says: ``genie_client.py FOLDER VERSION``, inputs and answers as NumPy files there.

Importing the package wants models that are downloads; its converters, its manager and its loop over codes do not. It
draws by noise inside its ONNX graphs, which is made constant here, so that the likeliest code is taken and sound has no
noise.
"""

import importlib.util
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import onnx

folder, version = Path(sys.argv[1]), sys.argv[2]
(folder / "data" / "hubert").mkdir(parents=True, exist_ok=True)
os.environ |= {"GENIE_DATA_DIR": str(folder), "HUBERT_MODEL_DIR": str(folder / "data"), "SV_MODEL": str(folder)}
os.chdir(folder)
package = types.ModuleType("genie_tts")
package.__spec__ = importlib.util.find_spec("genie_tts")
package.__path__ = list(package.__spec__.submodule_search_locations)
sys.modules["genie_tts"] = package
# Its readers of text, which want packages without wheels, and models.
readers = types.ModuleType("genie_tts.GetPhonesAndBert")
readers.get_phones_and_bert = None
sys.modules["genie_tts.GetPhonesAndBert"] = readers

from genie_tts.Converter.v2.Converter import convert as convert_v2  # noqa: E402
from genie_tts.Converter.v2ProPlus.Converter import convert as convert_plus  # noqa: E402
from genie_tts.Core.Inference import GENIE  # noqa: E402
from genie_tts.ModelManager import ModelManager  # noqa: E402


def quieten(place):
    for file in place.glob("*.onnx"):
        model = onnx.load(file, load_external_data=False)
        for node in model.graph.node:
            if node.op_type == "RandomNormalLike":
                del node.attribute[:]
                values = {"scale": 1e-30, "mean": 0.0 if file.name.startswith("vits") else 1.0}
                node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in values.items())
        onnx.save(model, file)


given = np.load("given.npz")
convert = convert_plus if version == "v2ProPlus" else convert_v2
convert("s1.ckpt", f"{version}.pth", "converted")
quieten(Path("converted"))
manager = ModelManager()
assert manager.load_character("voice", "converted", "English")
voice = manager.get("voice")
split = int(given["split"])
read = {"ref_seq": given["phonemes"][None, :split], "text_seq": given["phonemes"][None, split:]}
read |= {"ref_bert": given["bert"][:split], "text_bert": given["bert"][split:], "ssl_content": given["features"]}
_, prompt = voice.T2S_ENCODER.run(None, read)
sessions = {"encoder": voice.T2S_ENCODER, "first_stage_decoder": voice.T2S_FIRST_STAGE_DECODER}
codes = GENIE().t2s_cpu(**read, **sessions, stage_decoder=voice.T2S_STAGE_DECODER)
heard = {"text_seq": given["text"][None], "pred_semantic": given["codes"][None, None]}
if version == "v2ProPlus":
    style, advanced = voice.PROMPT_ENCODER.run(None, {"ref_audio": given["wave"], "sv_emb": given["speaker"]})
    heard |= {"ge": style, "ge_advanced": advanced}
else:
    heard |= {"ref_audio": given["wave"]}
sound = voice.VITS.run(None, heard)[0]
np.savez("genie.npz", prompt=prompt[0], codes=codes[0, 0], sound=np.ravel(sound))
print("\n" + json.dumps(codes.shape))
