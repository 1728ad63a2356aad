"""What llama.cpp says after ids, as JSON of texts: ``llama_client.py '[[1, 2], [3]]' FILE...``."""

import json
import sys

import xllamacpp


def speak(file, prompts):
    options = xllamacpp.CommonParams()
    options.model.path = file
    options.n_ctx, options.n_parallel, options.n_gpu_layers, options.warmup = 256, 1, 0, False
    options.cpuparams.n_threads = 1
    server = xllamacpp.Server(options)
    greedy = {"n_predict": 100, "samplers": ["top_k"], "top_k": 1, "repeat_penalty": 1.0, "cache_prompt": False}
    return [server.handle_completions({"prompt": ids, **greedy})["choices"][0]["text"] for ids in prompts]


if __name__ == "__main__":
    prompts = json.loads(sys.argv[1])
    print("\n" + json.dumps([speak(file, prompts) for file in sys.argv[2:]]))
