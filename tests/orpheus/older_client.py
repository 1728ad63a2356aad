"""What a stranger's transformers says after a text, as JSON: ``older_client.py TEXT... -- FOLDER...``."""

import json
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def speak(folder, texts):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lm = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    said = []
    for text in texts:
        prompt = torch.tensor([[128259, *tokenizer(text).input_ids, 128009, 128260, 128261, 128257]])
        mask, greedy = torch.ones_like(prompt), {"do_sample": False, "repetition_penalty": 1.0, "max_new_tokens": 100}
        said.append(lm.generate(prompt, attention_mask=mask, **greedy)[0, prompt.shape[1] :].tolist())
    return said


if __name__ == "__main__":
    torch.set_num_threads(1)
    split = sys.argv.index("--")
    texts, folders = sys.argv[1:split], sys.argv[split + 1 :]
    print(json.dumps([transformers.__version__, [speak(folder, texts) for folder in folders]]))
