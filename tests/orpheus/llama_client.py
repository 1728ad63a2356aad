"""What llama.cpp answers to requests, as JSON: ``llama_client.py '[{"prompt": [1, 2], ...}, ...]' FILE...``."""

import json
import sys

import xllamacpp


def answers(file, requests):
    options = xllamacpp.CommonParams()
    options.model.path = file
    options.n_ctx, options.n_parallel, options.n_gpu_layers, options.warmup = 256, 1, 0, False
    options.cpuparams.n_threads = 1
    server = xllamacpp.Server(options)
    return [server.handle_completions({**request, "cache_prompt": False}) for request in requests]


if __name__ == "__main__":
    requests = json.loads(sys.argv[1])
    print("\n" + json.dumps([answers(file, requests) for file in sys.argv[2:]]))
